"""Attention of many queries for Hopper (sm_90), warps specialised: one brings tiles, two groups of four multiply.

The producer keeps two rings of tiles full by the copy engine (TMA). The consumers issue the product of the next tile's
keys before the softmax of this one, so that the tensor cores work while exponentials are taken. Rings are guarded by
barriers in shared memory: `ready` when a tile has arrived, `free` when it has been read; each flips a phase a round.

The rules are those of prefill_kernel: causal, group heads share keys, rows beyond the last query are not stored. Heads
are as wide as the tile, and there are no windows. Gluon's compiler knows no starred lists.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)


@gluon.jit
def bring(k_desc, v_desc, k_ring, v_ring, k_ready, k_free, v_ready, v_free, batch, kv_head, tiles):
    """The producer: tile after tile of keys and of values, each as soon as its place is free."""
    STAGES: gl.constexpr = k_ring.shape[0]
    KEY_TILE: gl.constexpr = k_desc.block_type.shape[2]
    for tile in range(tiles):
        place, phase = tile % STAGES, (tile // STAGES) & 1
        mbarrier.wait(k_free.index(place), phase ^ 1)
        mbarrier.expect(k_ready.index(place), k_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(
            k_desc, [batch, kv_head, tile * KEY_TILE, 0], k_ready.index(place), k_ring.index(place)
        )
        mbarrier.wait(v_free.index(place), phase ^ 1)
        mbarrier.expect(v_ready.index(place), v_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(
            v_desc, [batch, kv_head, tile * KEY_TILE, 0], v_ready.index(place), v_ring.index(place)
        )


@gluon.jit
def soften(raw, running_max, running_sum, start, position, scale_log2, MASKED: gl.constexpr, SCORES: gl.constexpr):
    """The online softmax of one tile in base 2: pattern, rescale, maximum, sum."""
    if MASKED:
        key = start + gl.arange(0, raw.shape[1], gl.SliceLayout(0, SCORES))
        raw = gl.where(key[None, :] <= position[:, None], raw, float("-inf"))
    now_max = gl.maximum(running_max, gl.max(raw, 1) * scale_log2)
    pattern = gl.exp2(raw * scale_log2 - now_max[:, None])
    rescale = gl.exp2(running_max - now_max)
    return pattern, rescale, now_max, running_sum * rescale + gl.sum(pattern, 1)


@gluon.jit
def attend_between(
    first,
    last,
    raw,
    acc,
    running_max,
    running_sum,
    q_tile,
    k_ring,
    v_ring,
    k_ready,
    k_free,
    v_ready,
    v_free,
    position,
    scale_log2,
    MASKED: gl.constexpr,
    SCORES: gl.constexpr,
    VALUES: gl.constexpr,
):
    """Tiles first .. last - 1, of which the scores of the first are there; the scores of `last` are there after."""
    QUERY_TILE: gl.constexpr = q_tile.shape[0]
    STAGES: gl.constexpr = k_ring.shape[0]
    KEY_TILE: gl.constexpr = k_ring.shape[3]
    DIM: gl.constexpr = k_ring.shape[4]
    for tile in range(first, last):
        place, after = tile % STAGES, (tile + 1) % STAGES
        mbarrier.wait(k_ready.index(after), ((tile + 1) // STAGES) & 1)
        zero = gl.zeros([QUERY_TILE, KEY_TILE], gl.float32, SCORES)
        k_after = k_ring.index(after).reshape([KEY_TILE, DIM]).permute((1, 0))
        coming = warpgroup_mma(q_tile, k_after, zero, use_acc=False, is_async=True)
        pattern, rescale, running_max, running_sum = soften(
            raw, running_max, running_sum, tile * KEY_TILE, position, scale_log2, MASKED, SCORES
        )
        values = warpgroup_mma_wait(1, deps=[acc])  # all but the product just issued
        if tile > 0:
            mbarrier.arrive(v_free.index((tile - 1) % STAGES), count=1)
        values = values * gl.convert_layout(rescale, gl.SliceLayout(1, VALUES))[:, None]
        weights = gl.convert_layout(pattern.to(k_ring.dtype), gl.DotOperandLayout(0, VALUES, 2))
        mbarrier.wait(v_ready.index(place), (tile // STAGES) & 1)
        acc = warpgroup_mma(weights, v_ring.index(place).reshape([KEY_TILE, DIM]), values, is_async=True)
        raw = warpgroup_mma_wait(1, deps=[coming])
        mbarrier.arrive(k_free.index(after), count=1)
    return raw, acc, running_max, running_sum


@gluon.jit
def consume(
    q_ring,
    k_ring,
    v_ring,
    k_ready,
    k_free,
    v_ready,
    v_free,
    z_ptr,
    lse_ptr,
    stride_zt,
    first,
    tiles,
    unmasked,
    new_tokens,
    query_offset,
    scale_log2,
    WARPS: gl.constexpr,
):
    """The consumers: all tiles of keys for one tile of queries, and its output."""
    STAGES: gl.constexpr = k_ring.shape[0]
    QUERY_TILE: gl.constexpr = q_ring.shape[2]
    KEY_TILE: gl.constexpr = k_ring.shape[3]
    DIM: gl.constexpr = k_ring.shape[4]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, KEY_TILE, 16])
    VALUES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, DIM, 16])
    q_tile = q_ring.reshape([QUERY_TILE, DIM])
    position = query_offset + first + gl.arange(0, QUERY_TILE, gl.SliceLayout(1, SCORES))
    running_max = gl.full([QUERY_TILE], float("-inf"), gl.float32, gl.SliceLayout(1, SCORES))
    running_sum = gl.full([QUERY_TILE], 0.0, gl.float32, gl.SliceLayout(1, SCORES))
    acc = warpgroup_mma_init(gl.zeros([QUERY_TILE, DIM], gl.float32, VALUES))
    mbarrier.wait(k_ready.index(0), 0)
    zero = gl.zeros([QUERY_TILE, KEY_TILE], gl.float32, SCORES)
    k_first = k_ring.index(0).reshape([KEY_TILE, DIM]).permute((1, 0))
    raw = warpgroup_mma_wait(0, deps=[warpgroup_mma(q_tile, k_first, zero, use_acc=False, is_async=True)])
    mbarrier.arrive(k_free.index(0), count=1)
    last = tiles - 1
    # The same arguments twice, side by side: keys that all queries see, then those under the mask.
    raw, acc, running_max, running_sum = attend_between(
        0, gl.minimum(unmasked, last), raw, acc, running_max, running_sum, q_tile, k_ring, v_ring, k_ready, k_free,
        v_ready, v_free, position, scale_log2, False, SCORES, VALUES,
    )  # fmt: skip
    raw, acc, running_max, running_sum = attend_between(
        gl.minimum(unmasked, last), last, raw, acc, running_max, running_sum, q_tile, k_ring, v_ring, k_ready, k_free,
        v_ready, v_free, position, scale_log2, True, SCORES, VALUES,
    )  # fmt: skip
    pattern, rescale, running_max, running_sum = soften(
        raw, running_max, running_sum, last * KEY_TILE, position, scale_log2, True, SCORES
    )
    row = first + gl.arange(0, QUERY_TILE, gl.SliceLayout(1, SCORES))
    gl.store(lse_ptr + row, (running_max + gl.log2(running_sum)) * 0.6931471805599453, mask=row < new_tokens)
    values = warpgroup_mma_wait(0, deps=[acc]) * gl.convert_layout(rescale, gl.SliceLayout(1, VALUES))[:, None]
    weights = gl.convert_layout(pattern.to(k_ring.dtype), gl.DotOperandLayout(0, VALUES, 2))
    mbarrier.wait(v_ready.index(last % STAGES), (last // STAGES) & 1)
    acc = warpgroup_mma(weights, v_ring.index(last % STAGES).reshape([KEY_TILE, DIM]), values, is_async=True)
    values = warpgroup_mma_wait(0, deps=[acc]) / gl.convert_layout(running_sum, gl.SliceLayout(1, VALUES))[:, None]
    token = first + gl.arange(0, QUERY_TILE, gl.SliceLayout(1, VALUES))
    e = gl.arange(0, DIM, gl.SliceLayout(0, VALUES))
    gl.store(
        z_ptr + token[:, None] * stride_zt + e[None, :], values.to(k_ring.dtype), mask=(token < new_tokens)[:, None]
    )


@gluon.jit
def specialised_kernel(
    q_desc,
    k_desc,
    v_desc,
    z_ptr,
    lse_ptr,
    stride_zb,
    stride_zh,
    stride_zt,
    new_tokens,
    query_offset,
    scale_log2,
    GROUP: gl.constexpr,
    STAGES: gl.constexpr,
    WARPS: gl.constexpr,
):
    """One tile of queries of one head against all keys that it may see, the longest rows of keys first."""
    QUERY_TILE: gl.constexpr = q_desc.block_type.shape[2]
    KEY_TILE: gl.constexpr = k_desc.block_type.shape[2]
    first = (gl.num_programs(0) - 1 - gl.program_id(0)) * QUERY_TILE
    head, batch = gl.program_id(1), gl.program_id(2)
    tiles = (query_offset + gl.minimum(first + QUERY_TILE, new_tokens) + KEY_TILE - 1) // KEY_TILE
    unmasked = (query_offset + first + 1) // KEY_TILE
    q_ring = gl.allocate_shared_memory(q_desc.dtype, q_desc.block_type.shape, q_desc.layout)
    k_ring = gl.allocate_shared_memory(k_desc.dtype, [STAGES] + k_desc.block_type.shape, k_desc.layout)  # noqa: RUF005
    v_ring = gl.allocate_shared_memory(v_desc.dtype, [STAGES] + v_desc.block_type.shape, v_desc.layout)  # noqa: RUF005
    q_ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_ready, count=1)
    for place in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(place), count=1)
        mbarrier.init(k_free.index(place), count=1)
        mbarrier.init(v_ready.index(place), count=1)
        mbarrier.init(v_free.index(place), count=1)
    mbarrier.expect(q_ready, q_desc.block_type.nbytes)
    tma.async_copy_global_to_shared(q_desc, [batch, head, first, 0], q_ready, q_ring)
    mbarrier.wait(q_ready, 0)
    z_ptr += batch.to(gl.int64) * stride_zb + head.to(gl.int64) * stride_zh
    lse_ptr += (batch.to(gl.int64) * gl.num_programs(1) + head) * new_tokens
    gl.warp_specialize(
        [
            (
                consume,
                (
                    q_ring,
                    k_ring,
                    v_ring,
                    k_ready,
                    k_free,
                    v_ready,
                    v_free,
                    z_ptr,
                    lse_ptr,
                    stride_zt,
                    first,
                    tiles,
                    unmasked,
                    new_tokens,
                    query_offset,
                    scale_log2,
                    WARPS,
                ),
            ),
            (bring, (k_desc, v_desc, k_ring, v_ring, k_ready, k_free, v_ready, v_free, batch, head // GROUP, tiles)),
        ],
        [1],
        [24],
    )
