"""Scratch: memory that kernels allocate while they run, besides inputs and outputs.

It depends on the library, the instruction set and the threads: oneDNN's bf16 product of (200, 1000) by (1000, 384)
takes 0 bytes on a CPU without AVX-512, 117,760 with it, 99,456 with AMX and one thread, 927,360 with two. So it is
probed where the machine is available (llamalab.measure.profile.scratch) and bounded from above where it is not.
"""

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.startup.hints import NamedTuple, Protocol
from llamalab.units import storage_bytes

# PyTorch's fused attention on a CPU: queries and keys of a tile (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp).
_QUERY_TILE, _KEY_TILE = 256, 512
_MKL_BYTES = 12 * 2**20


class MatrixProduct(NamedTuple):
    """(rows, inner) by (inner, out), so often; `batch` 0 is a linear layer, whose weight is stored (out, inner)."""

    rows: int
    inner: int
    out: int
    batch: int = 0
    dtype: str = "bf16"
    transposed: bool = True


class Scratch(Protocol):
    """Bytes that a kernel allocates for itself during one call."""

    def product(self, product: MatrixProduct) -> int:
        """Of a matrix product."""

    def fused_attention(self, shape: AttentionShape) -> int:
        """Of a fused attention kernel, the log-sum of its rows apart, its mask included."""


class NoScratch:
    """Kernels without scratch: memory from the sizes of tensors alone."""

    basis = "exact"

    def product(self, product: MatrixProduct) -> int:
        """Nothing."""
        return 0

    def fused_attention(self, shape: AttentionShape) -> int:
        """Nothing."""
        return 0


class CpuBound:
    """An upper bound over all measured CPUs: for half types a copy of the input, the result in fp32, panels per thread.

    >>> CpuBound(threads=2).product(MatrixProduct(200, 1000, 384)) > 927_360
    True
    """

    basis = "estimated"

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def product(self, product: MatrixProduct) -> int:
        """In fp32 the panels that BLAS packs of a weight: measured for MKL, a third of it, and at most 10.6 MB."""
        if product.dtype == "fp32":
            return 0 if product.batch else min(_MKL_BYTES, storage_bytes(product.inner * product.out, "bf16"))
        copies = storage_bytes(product.rows * product.inner, product.dtype)
        result = storage_bytes(product.rows * product.out, "fp32")
        panels = self.threads * (128 * product.inner + 65_536)
        if not product.batch:
            return copies + result + panels
        # A batch is divided over the threads: each has one product at a time, with its second operand packed.
        packed = storage_bytes(product.inner * product.out, product.dtype)
        return min(self.threads, product.batch) * (copies + result + packed) + panels

    def fused_attention(self, shape: AttentionShape) -> int:
        """Tiles of scores and output per thread, packed keys and values in half types, the mask of a chunk."""
        queries, keys = min(_QUERY_TILE, shape.new_tokens), min(_KEY_TILE, shape.context_tokens)
        tiles = queries * (keys + 2 + shape.head_dim)
        held = self.threads * storage_bytes(tiles, "fp32") + mask_bytes(shape)
        if shape.dtype == "fp32":
            return held
        padded = -(-shape.context_tokens // 64) * 64
        packed = 2 * shape.batch * shape.n_heads * padded * shape.head_dim
        reduced = self.threads * (queries * keys + 2 * _KEY_TILE * shape.head_dim)
        return held + storage_bytes(packed + reduced, shape.dtype)


def mask_bytes(shape: AttentionShape) -> int:
    """The mask of a chunk that continues a cache, or within a window: as booleans, and in the dtype of the scores.

    >>> mask_bytes(AttentionShape(1, 10, 40, 5, 5, 20))
    1200
    """
    hidden = shape.new_tokens < shape.context_tokens or (shape.window or shape.context_tokens) < shape.context_tokens
    if shape.new_tokens == 1 or not hidden:
        return 0
    pairs = shape.new_tokens * shape.context_tokens
    return pairs + storage_bytes(pairs, shape.dtype)
