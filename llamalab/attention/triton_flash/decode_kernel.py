"""Attention of a few queries: as fast as K and V can be read, if every part of the chip reads.

One query has no tile to share K and V with except the other heads of its group, so these become
the rows of the tile: K and V are read once per group, not once per query head. One program per
group would leave most of the chip idle, so the keys are split between programs; each writes a
normalised partial output with its log-sum-exp, and a second kernel weighs them together
(flash decoding, Dao et al. 2023; the rescaling is that of the online softmax).
"""

import triton
import triton.language as tl

from llamalab.attention.triton_flash.step_kernel import attend_tile, finish, load_tile


@triton.jit(do_not_specialize=["new_tokens", "context_tokens", "query_offset", "keys_per_split", "window"])
def decode_kernel(
    q_ptr, k_ptr, v_ptr, z_ptr, lse_ptr,
    stride_qb, stride_qh, stride_qt, stride_kb, stride_kh, stride_kt,
    stride_vb, stride_vh, stride_vt, stride_zs, stride_zb, stride_zh, stride_zt, stride_ls,
    new_tokens, context_tokens, query_offset, keys_per_split, window, scale_log2,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, PRECISION: tl.constexpr,
    WINDOWED: tl.constexpr, ROWS: tl.constexpr, KEY_TILE: tl.constexpr,
):  # fmt: skip
    """All queries of one group of heads against one split of the keys."""
    split, kv_head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    k_ptr += batch * stride_kb + kv_head.to(tl.int64) * stride_kh
    v_ptr += batch * stride_vb + kv_head.to(tl.int64) * stride_vh
    row_R, e = tl.arange(0, ROWS), tl.arange(0, PADDED_DIM)
    head_R = kv_head * GROUP + row_R // new_tokens
    token_R = row_R % new_tokens
    inside_R, inside_E = row_R < GROUP * new_tokens, e < HEAD_DIM
    position_R = query_offset + token_R
    q_RE = load_tile(
        q_ptr + batch * stride_qb + (head_R * stride_qh + token_R * stride_qt)[:, None] + e[None, :],
        inside_R[:, None], inside_E[None, :], True, PADDED_DIM != HEAD_DIM,
    )  # fmt: skip
    max_R = tl.full([ROWS], float("-inf"), tl.float32)
    sum_R = tl.zeros([ROWS], tl.float32)
    acc_RE = tl.zeros([ROWS, PADDED_DIM], tl.float32)

    first = split * keys_per_split
    visible_to_any = tl.minimum(first + keys_per_split, query_offset + new_tokens)
    all_see = tl.maximum(tl.minimum(visible_to_any, query_offset + 1) - first, 0)
    visible_to_all = first + all_see // KEY_TILE * KEY_TILE
    if WINDOWED:  # a few queries whose windows begin at different keys: not worth telling tiles apart
        visible_to_all = first
    for start in range(first, visible_to_all, KEY_TILE):
        max_R, sum_R, acc_RE = attend_tile(
            q_RE, max_R, sum_R, acc_RE, k_ptr, v_ptr, stride_kt, stride_vt, start, context_tokens,
            position_R, window, scale_log2, HEAD_DIM, PADDED_DIM, KEY_TILE, False, WINDOWED, PRECISION,
        )  # fmt: skip
    for start in range(visible_to_all, visible_to_any, KEY_TILE):
        max_R, sum_R, acc_RE = attend_tile(
            q_RE, max_R, sum_R, acc_RE, k_ptr, v_ptr, stride_kt, stride_vt, start, context_tokens,
            position_R, window, scale_log2, HEAD_DIM, PADDED_DIM, KEY_TILE, True, WINDOWED, PRECISION,
        )  # fmt: skip

    z_RE, lse_R = finish(max_R, sum_R, acc_RE)
    z_ptr += split.to(tl.int64) * stride_zs + batch * stride_zb
    z_pointers = z_ptr + (head_R * stride_zh + token_R * stride_zt)[:, None] + e[None, :]
    tl.store(z_pointers, z_RE.to(z_ptr.dtype.element_ty), mask=inside_R[:, None] & inside_E[None, :])
    lse_ptr += split * stride_ls + batch * tl.num_programs(1) * GROUP * new_tokens
    tl.store(lse_ptr + head_R * new_tokens + token_R, lse_R, mask=inside_R)


@triton.jit(do_not_specialize=["n_splits", "n_rows"])
def combine_kernel(
    part_ptr, part_lse_ptr, z_ptr, lse_ptr, n_splits, n_rows,
    HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """The partial outputs of one query of one head, weighed by exp of their log-sum-exp."""
    row = tl.program_id(0).to(tl.int64)
    split_P, e = tl.arange(0, SPLITS), tl.arange(0, PADDED_DIM)
    inside_P, inside_E = split_P < n_splits, e < HEAD_DIM
    lse_P = tl.load(part_lse_ptr + split_P * n_rows + row, mask=inside_P, other=float("-inf"))
    pointers = part_ptr + (split_P.to(tl.int64) * n_rows + row)[:, None] * HEAD_DIM + e[None, :]
    part_PE = tl.load(pointers, mask=inside_P[:, None] & inside_E[None, :], other=0.0)
    # A split holds each query's own key, so the largest is finite.
    largest = tl.max(lse_P, 0)
    weight_P = tl.exp(lse_P - largest)
    total = tl.sum(weight_P, 0)
    z_E = tl.sum(part_PE * weight_P[:, None], 0) / total
    tl.store(z_ptr + row * HEAD_DIM + e, z_E.to(z_ptr.dtype.element_ty), mask=inside_E)
    tl.store(lse_ptr + row, largest + tl.log(total))
