"""Attention of a few queries at the memory bandwidth of the GPU, with keys split over all multiprocessors.

One query has no tile to share K and V with except the other heads of its group, so these become
the rows of the tile: K and V are read once per group, not once per query head. One program per
group would leave most of the chip idle, so the visible tiles of keys are split between programs; each
writes a normalised partial output with its log-sum-exp, and these are weighed together (flash decoding,
Dao et al. 2023; the rescaling is that of the online softmax): by the last program of the group to
arrive, or, where that is more than one program should read, by a second kernel.

The position of the first query is a number, or lies in memory: a CUDA graph replays the same launch at
every position, so the grid is for the longest context and the programs share out what is visible now.
"""

import triton
import triton.language as tl

from llamalab.attention.triton_flash.step_kernel import attend_tile, finish, load_tile


@triton.jit(do_not_specialize=["new_tokens", "context_tokens", "position", "window"])
def decode_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    z_ptr,
    lse_ptr,
    part_ptr,
    part_lse_ptr,
    arrived_ptr,
    stride_qb,
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_kt,
    stride_vb,
    stride_vh,
    stride_vt,
    new_tokens,
    context_tokens,
    position,
    window,
    scale_log2,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    PRECISION: tl.constexpr,
    WINDOWED: tl.constexpr,
    POSITION_IN_MEMORY: tl.constexpr,
    ROWS: tl.constexpr,
    KEY_TILE: tl.constexpr,
    PARTS: tl.constexpr,
    FOLDED: tl.constexpr,
    FOLD_ROWS: tl.constexpr,
    FOLD_SPLITS: tl.constexpr,
):
    """All queries of one group of heads against one split of the keys; outputs are contiguous."""
    split, kv_head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    n_splits, group = tl.num_programs(0), batch * tl.num_programs(1) + kv_head
    n_rows = GROUP * new_tokens
    query_offset = tl.load(position).to(tl.int32) if POSITION_IN_MEMORY else position
    k_ptr += batch * stride_kb + kv_head.to(tl.int64) * stride_kh
    v_ptr += batch * stride_vb + kv_head.to(tl.int64) * stride_vh
    row_R, e = tl.arange(0, ROWS), tl.arange(0, PADDED_DIM)
    head_R = kv_head * GROUP + row_R // new_tokens
    token_R = row_R % new_tokens
    inside_R, inside_E = row_R < n_rows, e < HEAD_DIM
    visible = tl.minimum(query_offset + new_tokens, context_tokens)
    position_R = tl.minimum(query_offset + token_R, visible - 1)  # a full ring is behind its position
    q_RE = load_tile(
        q_ptr + batch * stride_qb + (head_R * stride_qh + token_R * stride_qt)[:, None] + e[None, :],
        inside_R[:, None],
        inside_E[None, :],
        True,
        PADDED_DIM != HEAD_DIM,
    )
    max_R = tl.full([ROWS], float("-inf"), tl.float32)
    sum_R = tl.zeros([ROWS], tl.float32)
    acc_RE = tl.zeros([ROWS, PADDED_DIM], tl.float32)

    # Whole tiles of what some query sees, as many to each split; the last splits may get none.
    begun = tl.maximum(query_offset - window + 1, 0) // KEY_TILE if WINDOWED else 0
    share = tl.cdiv(tl.cdiv(visible, KEY_TILE) - begun, n_splits)
    first = (begun + split * share) * KEY_TILE
    visible_to_any = tl.minimum(first + share * KEY_TILE, visible)
    all_see = tl.maximum(tl.minimum(visible_to_any, query_offset + 1) - first, 0)
    visible_to_all = first + all_see // KEY_TILE * KEY_TILE
    if WINDOWED:  # a few queries whose windows begin at different keys: every tile is masked
        visible_to_all = first
    for start in range(first, visible_to_all, KEY_TILE):
        max_R, sum_R, acc_RE = attend_tile(
            q_RE,
            max_R,
            sum_R,
            acc_RE,
            k_ptr,
            v_ptr,
            stride_kt,
            stride_vt,
            0,
            0,
            start,
            visible,
            position_R,
            window,
            scale_log2,
            HEAD_DIM,
            PADDED_DIM,
            KEY_TILE,
            False,
            WINDOWED,
            False,
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
            0,
            0,
            start,
            visible,
            position_R,
            window,
            scale_log2,
            HEAD_DIM,
            PADDED_DIM,
            KEY_TILE,
            True,
            WINDOWED,
            False,
            PRECISION,
        )

    z_RE, lse_R = finish(max_R, sum_R, acc_RE)
    to_z_ptr, to_lse_ptr, first_row = z_ptr, lse_ptr, group * n_rows
    if PARTS:
        to_z_ptr, to_lse_ptr = part_ptr, part_lse_ptr
        first_row += split.to(tl.int64) * tl.num_programs(1) * tl.num_programs(2) * n_rows
    z_pointers = to_z_ptr + (first_row + row_R)[:, None] * HEAD_DIM + e[None, :]
    tl.store(z_pointers, z_RE.to(to_z_ptr.dtype.element_ty), mask=inside_R[:, None] & inside_E[None, :])
    tl.store(to_lse_ptr + first_row + row_R, lse_R, mask=inside_R)
    if FOLDED:
        tl.debug_barrier()  # every thread's part is written before the count is raised
        if tl.atomic_add(arrived_ptr + group, 1, sem="acq_rel") == n_splits - 1:
            weigh(
                part_ptr,
                part_lse_ptr,
                z_ptr,
                lse_ptr,
                group * n_rows,
                n_rows,
                tl.num_programs(1) * tl.num_programs(2) * n_rows,
                n_splits,
                HEAD_DIM,
                PADDED_DIM,
                FOLD_ROWS,
                FOLD_SPLITS,
            )
            tl.store(arrived_ptr + group, 0)  # ready for the next launch


@triton.jit
def weigh(
    part_ptr,
    part_lse_ptr,
    z_ptr,
    lse_ptr,
    first_row,
    n_rows,
    rows_of_a_split,
    n_splits,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    ROWS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """The partial outputs of up to ROWS rows, weighed by exp of their log-sum-exp, SPLITS of them at a time."""
    row_R, e = tl.arange(0, ROWS), tl.arange(0, PADDED_DIM)
    inside_R, inside_E = row_R < n_rows, e < HEAD_DIM
    max_R = tl.full([ROWS], float("-inf"), tl.float32)
    sum_R = tl.zeros([ROWS], tl.float32)
    acc_RE = tl.zeros([ROWS, PADDED_DIM], tl.float32)
    for start in range(0, n_splits, SPLITS):
        split_P = start + tl.arange(0, SPLITS)
        inside_PR = (split_P < n_splits)[:, None] & inside_R[None, :]
        row_PR = first_row + split_P.to(tl.int64)[:, None] * rows_of_a_split + row_R[None, :]
        # What other programs wrote is in L2, and may be stale in this one's L1.
        lse_PR = tl.load(part_lse_ptr + row_PR, mask=inside_PR, other=float("-inf"), cache_modifier=".cg")
        part_PRE = tl.load(
            part_ptr + row_PR[:, :, None] * HEAD_DIM + e[None, None, :],
            mask=inside_PR[:, :, None] & inside_E[None, None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        now_R = tl.maximum(max_R, tl.max(lse_PR, 0))
        finite_R = tl.where(now_R == float("-inf"), 0.0, now_R)  # splits that see nothing may come first
        weight_PR = tl.exp(lse_PR - finite_R[None, :])
        rescale_R = tl.exp(max_R - finite_R)
        acc_RE = acc_RE * rescale_R[:, None] + tl.sum(part_PRE * weight_PR[:, :, None], 0)
        sum_R = sum_R * rescale_R + tl.sum(weight_PR, 0)
        max_R = now_R
    empty_R = sum_R == 0.0
    divisor_R = tl.where(empty_R, 1.0, sum_R)
    z_pointers = z_ptr + (first_row + row_R)[:, None] * HEAD_DIM + e[None, :]
    z_RE = acc_RE / divisor_R[:, None]
    tl.store(z_pointers, z_RE.to(z_ptr.dtype.element_ty), mask=inside_R[:, None] & inside_E[None, :])
    tl.store(lse_ptr + first_row + row_R, max_R + tl.log(divisor_R), mask=inside_R)


@triton.jit(do_not_specialize=["n_splits", "n_rows"])
def combine_kernel(
    part_ptr,
    part_lse_ptr,
    z_ptr,
    lse_ptr,
    n_splits,
    n_rows,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """The partial outputs of one query of one head, by a program of its own."""
    row = tl.program_id(0).to(tl.int64)
    weigh(part_ptr, part_lse_ptr, z_ptr, lse_ptr, row, 1, n_rows, n_splits, HEAD_DIM, PADDED_DIM, 1, SPLITS)
