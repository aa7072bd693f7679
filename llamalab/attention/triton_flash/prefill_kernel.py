"""Attention of many queries: one program per tile of queries and head, keys streamed past it.

Tiles of keys that every query of the tile sees need no mask; only those on the diagonal do. The
programs with the most keys start first, so that none is left alone at the end. The tile's own
row of heads comes before the next head's, so that programs running together share K and V in L2.
"""

import triton
import triton.language as tl
from triton.runtime import driver

from llamalab.attention.triton_flash.plan import all_half_tiles, half_tiles
from llamalab.attention.triton_flash.step_kernel import attend_tile, finish, load_tile


@triton.jit(do_not_specialize=["new_tokens", "context_tokens", "query_offset", "window", "bucket"])
def prefill_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    z_ptr,
    lse_ptr,
    stride_qb,
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_kt,
    stride_vb,
    stride_vh,
    stride_vt,
    stride_zb,
    stride_zh,
    stride_zt,
    new_tokens,
    context_tokens,
    query_offset,
    window,
    bucket,
    scale_log2,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    PRECISION: tl.constexpr,
    WINDOWED: tl.constexpr,
    DESCRIBED: tl.constexpr,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
):
    """One tile of queries of one head against all keys that it may see."""
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERY_TILE  # the longest row of keys first
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    batch_at, kv_head_at = tl.program_id(2), head // GROUP
    if not DESCRIBED:
        k_ptr += batch * stride_kb + kv_head_at.to(tl.int64) * stride_kh
        v_ptr += batch * stride_vb + kv_head_at.to(tl.int64) * stride_vh
    token_R, e = first + tl.arange(0, QUERY_TILE), tl.arange(0, PADDED_DIM)
    inside_R, inside_E = token_R < new_tokens, e < HEAD_DIM
    position_R = query_offset + token_R
    q_ptr += batch * stride_qb + head.to(tl.int64) * stride_qh
    q_RE = load_tile(
        q_ptr + token_R[:, None] * stride_qt + e[None, :],
        inside_R[:, None],
        inside_E[None, :],
        True,
        PADDED_DIM != HEAD_DIM,
    )
    max_R = tl.full([QUERY_TILE], float("-inf"), tl.float32)
    sum_R = tl.zeros([QUERY_TILE], tl.float32)
    acc_RE = tl.zeros([QUERY_TILE, PADDED_DIM], tl.float32)

    visible_to_all = (query_offset + first + 1) // KEY_TILE * KEY_TILE
    visible_to_any = query_offset + tl.minimum(first + QUERY_TILE, new_tokens)
    unmasked = 0
    if WINDOWED:
        # From the tile with the first row's first key to where every row's window has begun.
        begun = tl.maximum(query_offset + first - window + 1, 0) // KEY_TILE * KEY_TILE
        unmasked = tl.cdiv(tl.maximum(query_offset + first + QUERY_TILE - window, 0), KEY_TILE) * KEY_TILE
        unmasked = tl.maximum(tl.minimum(unmasked, visible_to_all), begun)
        for start in range(begun, unmasked, KEY_TILE):
            max_R, sum_R, acc_RE = attend_tile(
                q_RE,
                max_R,
                sum_R,
                acc_RE,
                k_ptr,
                v_ptr,
                stride_kt,
                stride_vt,
                batch_at,
                kv_head_at,
                start,
                context_tokens,
                position_R,
                window,
                scale_log2,
                HEAD_DIM,
                PADDED_DIM,
                KEY_TILE,
                True,
                WINDOWED,
                DESCRIBED,
                PRECISION,
            )
        visible_to_all = tl.maximum(visible_to_all, unmasked)
    for start in range(unmasked, visible_to_all, KEY_TILE):
        max_R, sum_R, acc_RE = attend_tile(
            q_RE,
            max_R,
            sum_R,
            acc_RE,
            k_ptr,
            v_ptr,
            stride_kt,
            stride_vt,
            batch_at,
            kv_head_at,
            start,
            context_tokens,
            position_R,
            window,
            scale_log2,
            HEAD_DIM,
            PADDED_DIM,
            KEY_TILE,
            False,
            WINDOWED,
            DESCRIBED,
            PRECISION,
        )
    for start in range(visible_to_all, visible_to_any, KEY_TILE):
        max_R, sum_R, acc_RE = attend_tile(
            q_RE,
            max_R,
            sum_R,
            acc_RE,
            k_ptr,
            v_ptr,
            stride_kt,
            stride_vt,
            batch_at,
            kv_head_at,
            start,
            context_tokens,
            position_R,
            window,
            scale_log2,
            HEAD_DIM,
            PADDED_DIM,
            KEY_TILE,
            True,
            WINDOWED,
            DESCRIBED,
            PRECISION,
        )

    z_RE, lse_R = finish(max_R, sum_R, acc_RE)
    z_ptr += batch * stride_zb + head.to(tl.int64) * stride_zh
    z_pointers = z_ptr + token_R[:, None] * stride_zt + e[None, :]
    tl.store(z_pointers, z_RE.to(z_ptr.dtype.element_ty), mask=inside_R[:, None] & inside_E[None, :])
    lse_ptr += (batch * tl.num_programs(1) + head) * new_tokens
    tl.store(lse_ptr + token_R, lse_R, mask=inside_R)


def _of_this_chip(described):
    """Those configs that plan.half_tiles names for the head dim and the chip that Triton compiles for."""

    def prune(configs, arguments, **constants):
        tiles = half_tiles(constants["PADDED_DIM"], driver.active.get_current_target().arch, described)
        return [config for config, tile in zip(configs, all_half_tiles(described), strict=True) if tile in tiles]

    return prune


def _shape_descriptors(arguments):
    """Descriptors bring tiles of the config's own size."""
    for name in ("k_ptr", "v_ptr"):
        arguments[name].block_shape = [1, 1, arguments["KEY_TILE"], arguments["PADDED_DIM"]]


def _tuned(described):
    """Triton tries the configs once, and keeps the fastest per head dim and bucket of lengths."""
    configs = [
        triton.Config(
            {"QUERY_TILE": tile.query_tile, "KEY_TILE": tile.key_tile},
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            pre_hook=_shape_descriptors if described else None,
        )
        for tile in all_half_tiles(described)
    ]
    prune = {"early_config_prune": _of_this_chip(described)}
    return triton.autotune(configs, key=["HEAD_DIM", "bucket"], prune_configs_by=prune)(prefill_kernel)


tuned_prefill_kernel, tuned_described_kernel = _tuned(False), _tuned(True)
