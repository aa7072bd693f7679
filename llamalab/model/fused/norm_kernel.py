"""RMSNorm with the residual sum before it. D model dim."""

import triton
import triton.language as tl


@triton.jit
def add_norm_kernel(
    x_ptr,
    more_ptr,
    weight_ptr,
    h_ptr,
    eps,
    ADDED: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
):
    """One token: x += more, in its place, and h = x / rms(x) * weight; rows are contiguous."""
    first = tl.program_id(0).to(tl.int64) * DIM
    d = tl.arange(0, PADDED_DIM)
    inside_D = d < DIM
    kind = h_ptr.dtype.element_ty
    x_D = tl.load(x_ptr + first + d, mask=inside_D, other=0.0).to(tl.float32)
    if ADDED:
        more_D = tl.load(more_ptr + first + d, mask=inside_D, other=0.0).to(tl.float32)
        rounded_D = (x_D + more_D).to(kind)
        tl.store(x_ptr + first + d, rounded_D, mask=inside_D)
        x_D = rounded_D.to(tl.float32)
    weight_D = tl.load(weight_ptr + d, mask=inside_D, other=0.0).to(tl.float32)
    normed_D = x_D * tl.rsqrt(tl.sum(x_D * x_D, 0) / DIM + eps)
    normed_D = normed_D.to(kind).to(tl.float32)  # rounded before the weight, as RMSNorm does
    tl.store(h_ptr + first + d, (normed_D * weight_D).to(kind), mask=inside_D)
