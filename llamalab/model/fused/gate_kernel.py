"""SwiGLU between its products: silu(gate) * up, written over the gate."""

import triton
import triton.language as tl


@triton.jit
def gate_kernel(gate_ptr, up_ptr, size, TILE: tl.constexpr):
    """A tile of elements of any number of tokens."""
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = at < size
    kind = gate_ptr.dtype.element_ty
    gate = tl.load(gate_ptr + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + at, mask=inside, other=0.0).to(tl.float32)
    act = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)  # rounded before the product, as torch's silu is
    tl.store(gate_ptr + at, (act * up).to(kind), mask=inside)
