"""RoPE and the KV cache in one launch: queries rotated in place, keys rotated into the cache, values copied there.

A program has one head of one sequence. Pairs are neighbours, as in llamalab.model.rope; heads that the model normalises
are normalised before. E head dim, P = E / 2 pairs.
"""

import triton
import triton.language as tl


@triton.jit
def turn_append_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    turn_ptr,
    keys_ptr,
    values_ptr,
    position_ptr,
    q_weight_ptr,
    k_weight_ptr,
    stride_kb,
    stride_kh,
    stride_kt,
    stride_vb,
    stride_vh,
    stride_vt,
    room,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TURNED: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    NORMED: tl.constexpr,
):
    """One head: of the queries first, then of keys and values; the place in a ring of `room` is position % room."""
    head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    if head < HEADS:
        own_ptr = q_ptr + (batch * HEADS + head) * HEAD_DIM
        turn_head(own_ptr, own_ptr, turn_ptr, q_weight_ptr, eps, HEAD_DIM, TURNED, PADDED_PAIRS, NORMED)
    else:
        kv_head = head - HEADS
        place = tl.load(position_ptr) % room
        key_ptr = keys_ptr + batch * stride_kb + kv_head * stride_kh + place * stride_kt
        value_ptr = values_ptr + batch * stride_vb + kv_head * stride_vh + place * stride_vt
        first = (batch * KV_HEADS + kv_head) * HEAD_DIM
        turn_head(k_ptr + first, key_ptr, turn_ptr, k_weight_ptr, eps, HEAD_DIM, TURNED, PADDED_PAIRS, NORMED)
        e = tl.arange(0, 2 * PADDED_PAIRS)
        tl.store(value_ptr + e, tl.load(v_ptr + first + e, mask=e < HEAD_DIM), mask=e < HEAD_DIM)


@triton.jit
def turn_head(
    from_ptr,
    to_ptr,
    turn_ptr,
    weight_ptr,
    eps,
    HEAD_DIM: tl.constexpr,
    TURNED: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    NORMED: tl.constexpr,
):
    """Each pair times its turn, a complex number; pairs from TURNED on stay as they are."""
    pair = tl.arange(0, PADDED_PAIRS)
    even, odd, inside = 2 * pair, 2 * pair + 1, pair < HEAD_DIM // 2
    kind = to_ptr.dtype.element_ty
    a = tl.load(from_ptr + even, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(from_ptr + odd, mask=inside, other=0.0).to(tl.float32)
    if NORMED:
        scale = tl.rsqrt((tl.sum(a * a, 0) + tl.sum(b * b, 0)) / HEAD_DIM + eps)
        even_weight = tl.load(weight_ptr + even, mask=inside, other=0.0).to(tl.float32)
        odd_weight = tl.load(weight_ptr + odd, mask=inside, other=0.0).to(tl.float32)
        a = ((a * scale).to(kind).to(tl.float32) * even_weight).to(kind).to(tl.float32)
        b = ((b * scale).to(kind).to(tl.float32) * odd_weight).to(kind).to(tl.float32)
    real = tl.load(turn_ptr + even, mask=pair < TURNED, other=1.0)
    imaginary = tl.load(turn_ptr + odd, mask=pair < TURNED, other=0.0)
    tl.store(to_ptr + even, (a * real - b * imaginary).to(kind), mask=inside)
    tl.store(to_ptr + odd, (a * imaginary + b * real).to(kind), mask=inside)
