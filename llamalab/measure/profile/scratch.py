"""What this machine's kernels take for themselves: each shape run twice, alone, and its allocations added up."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.analytic.scratch import MatrixProduct
from llamalab.attention import sdpa
from llamalab.measure.device.peak_memory import allocation_peak, process_peak_bytes
from llamalab.model.dtypes import activation_dtype


class ProbedScratch:
    """Scratch of this machine's CPU with its present number of threads; each shape is asked once.

    BLAS packs operands in fp32 into buffers that torch's allocator does not see: `resident` counts those too, as the
    operating system sees them, where BLAS gives them back.
    """

    basis = "measured"

    def __init__(self, *, resident: bool = False) -> None:
        self.resident = resident

    def product(self, product: MatrixProduct) -> int:
        """Of a matrix product of that size."""
        if product.dtype == "fp32" and not self.resident:
            return 0
        return _of_product(product, torch.get_num_threads())

    def fused_attention(self, shape: AttentionShape) -> int:
        """Of PyTorch's fused attention, its output and the log-sum of its rows apart."""
        return _of_attention(shape, torch.get_num_threads())


@cache
def _of_product(product: MatrixProduct, threads: int) -> int:
    rows, inner, out, batch = product[:4]
    wide = product.dtype == "fp32"
    if wide and batch:
        return 0  # seen to take less than 0.2 MiB
    kind = activation_dtype(product.dtype)
    if not batch:
        x, weight = torch.ones(rows, inner, dtype=kind), torch.ones(out, inner, dtype=kind)
        return (_beyond_resident if wide else _beyond)(lambda: functional.linear(x, weight), rows * out)
    left = torch.ones(batch, rows, inner, dtype=kind)
    if product.transposed:
        start, right = left.new_empty(1), torch.ones(batch, out, inner, dtype=kind).transpose(1, 2)
        return _beyond(lambda: torch.baddbmm(start, left, right, beta=0, alpha=0.5), batch * rows * out)
    plain = torch.ones(batch, inner, out, dtype=kind)
    return _beyond(lambda: torch.bmm(left, plain), batch * rows * out)


@cache
def _of_attention(shape: AttentionShape, threads: int) -> int:
    batch, new, keys, heads, kv_heads, head_dim = shape[:6]
    kind = activation_dtype(shape.dtype)
    # Heads beside each other in a row, as a projection leaves them, and a cache's view.
    q_BHTE = torch.ones(batch, new, heads, head_dim, dtype=kind).transpose(1, 2)
    k_BKSE = torch.ones(batch, kv_heads, keys, head_dim, dtype=kind)
    sums = batch * heads * new * 4
    attended = _beyond(
        lambda: sdpa.attend(q_BHTE, k_BKSE, k_BKSE, query_offset=keys - new, window=shape.window), shape.query_elements
    )
    return max(0, attended - sums)


def _beyond_resident(work: Callable[[], Tensor], elements: int) -> int:
    """The same in fp32, as the operating system sees it."""
    with torch.inference_mode():
        work()
        peak = process_peak_bytes(work)
    return 0 if peak is None else max(0, peak - 4 * elements)


def _beyond(work: Callable[[], Tensor], elements: int) -> int:
    """Bytes that a call holds above its result of so many elements."""
    with torch.inference_mode():
        size = work().element_size()
        peak = allocation_peak(work)
    return 0 if peak is None else peak - elements * size
