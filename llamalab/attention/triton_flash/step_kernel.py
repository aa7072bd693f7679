"""One tile of keys: the online softmax of both Triton kernels.

Scores stay on chip. The softmax is taken in base 2, exp(x) = exp2(x * log2(e)), because exp2 is one
instruction; `scale_log2` is E**-0.5 * log2(e), so that scaling and change of base are one factor.

Letters: R rows of the tile of queries, N keys of the tile, E head dim padded to a power of two.
"""

import triton
import triton.language as tl


@triton.jit
def load_tile(pointers, inside_rows, inside_columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Load a tile, 0 outside; ROWS and COLUMNS say which of its borders can be crossed at all."""
    if ROWS and COLUMNS:
        return tl.load(pointers, mask=inside_rows & inside_columns, other=0.0)
    if ROWS:
        return tl.load(pointers, mask=inside_rows, other=0.0)
    if COLUMNS:
        return tl.load(pointers, mask=inside_columns, other=0.0)
    return tl.load(pointers)


@triton.jit
def product(a, b, acc, PRECISION: tl.constexpr):
    """Add a @ b to acc, in fp32; "wide" is for Triton 3.9's interpreter, to which bf16 is whole numbers."""
    if PRECISION == "wide":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def attend_tile(
    q_RE,
    running_max_R,
    running_sum_R,
    acc_RE,
    k_ptr,
    v_ptr,
    stride_k_token,
    stride_v_token,
    batch,
    kv_head,
    start,
    context_tokens,
    position_R,
    window,
    scale_log2,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    KEY_TILE: tl.constexpr,
    MASKED: tl.constexpr,
    WINDOWED: tl.constexpr,
    DESCRIBED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Take the keys start .. start + KEY_TILE in; MASKED where some row may not see all of them.

    DESCRIBED: K and V are descriptors of whole tensors, whose tiles the chip's copy engine brings, 0 outside; else
    pointers to the first key and value of the head.
    """
    padded: tl.constexpr = PADDED_DIM != HEAD_DIM
    e = tl.arange(0, PADDED_DIM)
    key_N = start + tl.arange(0, KEY_TILE)
    inside_N, inside_E = key_N < context_tokens, e < HEAD_DIM
    if DESCRIBED:
        k_EN = k_ptr.load([batch, kv_head, start, 0]).reshape(KEY_TILE, PADDED_DIM).T
    else:
        k_EN = load_tile(
            k_ptr + e[:, None] + key_N[None, :] * stride_k_token, inside_E[:, None], inside_N[None, :], padded, MASKED
        )
    zero_RN = tl.zeros([q_RE.shape[0], KEY_TILE], tl.float32)
    raw_RN = product(q_RE, k_EN, zero_RN, PRECISION)
    if MASKED:
        raw_RN = tl.where(key_N[None, :] <= position_R[:, None], raw_RN, float("-inf"))
        if WINDOWED:
            raw_RN = tl.where(key_N[None, :] > position_R[:, None] - window, raw_RN, float("-inf"))
    max_R = tl.maximum(running_max_R, tl.max(raw_RN, 1) * scale_log2)
    # A row that has seen no key yet has the maximum -inf, and -inf - -inf is not a number.
    finite_R = tl.where(max_R == float("-inf"), 0.0, max_R) if MASKED else max_R
    pattern_RN = tl.exp2(raw_RN * scale_log2 - finite_R[:, None])  # one fused multiply-add per score
    rescale_R = tl.exp2(running_max_R - finite_R)
    if DESCRIBED:
        v_NE = v_ptr.load([batch, kv_head, start, 0]).reshape(KEY_TILE, PADDED_DIM)
    else:
        v_NE = load_tile(
            v_ptr + key_N[:, None] * stride_v_token + e[None, :], inside_N[:, None], inside_E[None, :], MASKED, padded
        )
    acc_RE = product(pattern_RN.to(v_NE.dtype), v_NE, acc_RE * rescale_R[:, None], PRECISION)
    return max_R, running_sum_R * rescale_R + tl.sum(pattern_RN, 1), acc_RE


@triton.jit
def finish(running_max_R, running_sum_R, acc_RE):
    """The output and the natural log-sum-exp; a row that saw no key gets 0 and -inf."""
    empty_R = running_sum_R == 0.0
    divisor_R = tl.where(empty_R, 1.0, running_sum_R)
    lse_R = (running_max_R + tl.log2(divisor_R)) * 0.6931471805599453  # ln(2): back from base 2
    return acc_RE / divisor_R[:, None], lse_R
