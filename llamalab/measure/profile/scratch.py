"""Scratch memory of this machine's kernels: each shape is run twice, alone, and its allocations are added up."""

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
    """Scratch of kernels on this CPU with the present number of threads; each shape is measured once.

    BLAS packs fp32 operands into buffers that torch's allocator does not see: `resident` includes those, from the
    resident set, where BLAS frees them.
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
        """Of PyTorch's fused attention, without its output and the log-sum of its rows."""
        return _of_attention(shape, torch.get_num_threads())


@cache
def _of_product(product: MatrixProduct, threads: int) -> int:
    rows, out, batch = product.rows, product.out, product.batch
    wide = product.dtype == "fp32"
    if wide and batch:
        return 0  # measured: less than 0.2 MiB
    return (_beyond_resident if wide else _beyond)(product_call(product), max(1, batch) * rows * out)


def product_call(product: MatrixProduct) -> Callable[[], Tensor]:
    """A product of matrices of ones, in the layout that the model uses."""
    rows, inner, out, batch = product[:4]
    kind = activation_dtype(product.dtype)
    if not batch:
        x, weight = torch.ones(rows, inner, dtype=kind), torch.ones(out, inner, dtype=kind)
        return lambda: functional.linear(x, weight)
    left = torch.ones(batch, rows, inner, dtype=kind)
    if product.transposed:
        start, right = left.new_empty(1), torch.ones(batch, out, inner, dtype=kind).transpose(1, 2)
        return lambda: torch.baddbmm(start, left, right, beta=0, alpha=0.5)
    plain = torch.ones(batch, inner, out, dtype=kind)
    return lambda: torch.bmm(left, plain)


@cache
def _of_attention(shape: AttentionShape, threads: int) -> int:
    sums = shape.batch * shape.n_heads * shape.new_tokens * 4
    return max(0, _beyond(attention_call(shape), shape.query_elements) - sums)


def attention_call(shape: AttentionShape) -> Callable[[], Tensor]:
    """Fused attention on ones: heads adjacent in a row, as a projection writes them, and views of a cache."""
    batch, new, keys, heads, kv_heads, head_dim = shape[:6]
    kind = activation_dtype(shape.dtype)
    q_BHTE = torch.ones(batch, new, heads, head_dim, dtype=kind).transpose(1, 2)
    k_BKSE = torch.ones(batch, kv_heads, keys, head_dim, dtype=kind)
    return lambda: sdpa.attend(q_BHTE, k_BKSE, k_BKSE, query_offset=keys - new, window=shape.window)


def _beyond_resident(work: Callable[[], Tensor], elements: int) -> int:
    """The same in fp32, from the growth of the resident set."""
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
