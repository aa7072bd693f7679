"""What everything costs on the simulated GPU: the truth that measurements on it are held against.

Durations of kernels follow from shapes alone: bytes over a rate, products by waves of tiles over the multiprocessors.
The figures are those of no real device; their proportions are those of a large one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor

# Operations that change how memory is looked at, or reserve it: no kernel runs.
_NO_KERNEL = {
    "view", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "alias", "split",
    "split_with_sizes", "unbind", "t", "_unsafe_view", "_reshape_alias", "empty", "empty_like", "new_empty",
    "empty_strided", "new_empty_strided", "view_as_complex", "view_as_real", "lift_fresh", "narrow", "unfold",
    "as_strided", "_local_scalar_dense", "resolve_conj", "resolve_neg",
}  # fmt: skip
_ATTENTION = "_scaled_dot_product_"


@dataclass(frozen=True)
class Costs:
    """Seconds of the host per call, of the device around kernels, and what the device does per second."""

    call_s: float = 4e-6
    product_call_s: float = 6e-6
    attention_call_s: float = 12e-6
    event_call_s: float = 1.2e-6
    replay_call_s: float = 7e-6
    wait_s: float = 3e-6
    latency_s: float = 2e-6  # from a launch to its kernel's begin
    gap_s: float = 0.9e-6  # between two kernels
    graph_gap_s: float = 0.6e-6  # between two kernels of a graph
    graph_start_s: float = 2.4e-6
    event_s: float = 0.3e-6  # that an event makes the device later
    kernel_s: float = 1.6e-6  # of the shortest kernel
    queue: int = 1024  # launches that wait for the device at most; the host then waits too
    plan_s: float = 0.03  # of the host, when cuDNN sees a shape for the first time
    memory_bytes_per_s: float = 3.0e12
    cache_bytes_per_s: float = 5.5e12
    cache_bytes: int = 52_428_800  # as reported
    cached_bytes: int = 25_000_000  # that a kernel may touch and still be served by the cache
    flops_per_s: float = 750e12
    attention_flops_per_s: float = 450e12
    multiprocessors: int = 132
    tiles: tuple[tuple[int, int, float], ...] = (
        (128, 256, 1.0),
        (128, 128, 0.97),
        (64, 128, 0.88),
        (64, 64, 0.75),
    )  # rows, columns, and the share of the peak that products by such tiles reach

    def product_s(self, m: int, n: int, k: int, size: int) -> float:
        """Seconds of (m, k) @ (k, n) with elements of so many bytes: tiles in waves, or the operands from memory."""
        computing_s = min(self._waves_s(m, n, k, *tile) for tile in self.tiles) if m > 16 else 0.0
        return max(self.kernel_s, computing_s, size * (m * k + k * n + m * n) / self.memory_bytes_per_s)

    def _waves_s(self, m: int, n: int, k: int, rows: int, columns: int, share: float) -> float:
        """Seconds of whole waves of whole tiles, of which each multiprocessor does one at a time."""
        waves = ceil(ceil(m / rows) * ceil(n / columns) / self.multiprocessors)
        return waves * 2.0 * rows * columns * k * self.multiprocessors / (self.flops_per_s * share)

    def move_s(self, nbytes: int) -> float:
        """Seconds of a kernel that reads and writes so many bytes."""
        rate = self.cache_bytes_per_s if nbytes <= self.cached_bytes else self.memory_bytes_per_s
        return max(self.kernel_s, nbytes / rate)

    def attention_s(self, q: Sequence[int], keys: int, kv_heads: int, size: int) -> float:
        """Seconds of fused causal attention of q (B, H, T, E) over so many keys: visible pairs, or keys and values."""
        batch, heads, tokens, dim = q
        pairs = tokens * (2 * keys - tokens + 1) / 2
        moved = size * batch * dim * (2 * heads * tokens + 2 * kv_heads * keys)
        computing_s = 4.0 * batch * heads * dim * pairs / self.attention_flops_per_s if tokens > 16 else 0.0
        return max(3e-6, computing_s, moved / self.memory_bytes_per_s)

    def best_cached_copy_bytes_per_s(self) -> float:
        """The most that copies in one graph reach inside the cache: the largest that it serves, and a gap.

        Where the cache is small that one is the shortest kernel there is.
        """
        return self.cached_bytes / (self.move_s(self.cached_bytes) + self.graph_gap_s)

    def kernel_of(self, name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[float, float] | None:
        """Seconds of the device and of the host for one operation; None where no kernel runs."""
        base = name.partition(".")[0]
        if base in _NO_KERNEL or (not outputs and not base.endswith("_")):
            return None
        if base in ("mm", "addmm", "linear"):
            x, weight = (inputs[0], inputs[1]) if base != "addmm" else (inputs[-2], inputs[-1])
            k = x.shape[-1]
            return self.product_s(x.numel() // k, weight.numel() // k, k, x.element_size()), self.product_call_s
        if base in ("bmm", "baddbmm"):
            a, b = inputs[-2:]
            flops, moved = 2.0 * prod(a.shape) * b.shape[2], nbytes(inputs[-2:]) + nbytes(outputs)
            return max(self.kernel_s, flops / self.flops_per_s, moved / self.memory_bytes_per_s), self.product_call_s
        if base.startswith(_ATTENTION):
            q, k = inputs[:2]
            return self.attention_s(q.shape, k.shape[2], k.shape[1], q.element_size()), self.attention_call_s
        return self.move_s(moved_bytes(base, inputs, outputs)), self.call_s

    def triton_kernel(self, name: str, tensors: Sequence[Tensor]) -> tuple[float, float]:
        """Seconds of the device and of the host for a launch of Triton's that reads or writes each tensor once."""
        if name == "turn_append_kernel":  # of the caches behind its first four a place is written
            tensors = tensors[:4]
        known = {one.untyped_storage()._cdata: one for one in tensors}
        return self.move_s(nbytes(list(known.values()))), self.call_s


def moved_bytes(base: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Bytes that an elementwise operation reads and writes; of a table only the rows that are looked up."""
    if base == "embedding":
        return 2 * nbytes(outputs)
    if base in ("index_copy_", "fill_", "zero_", "copy_"):
        return 2 * nbytes(inputs[-1:]) if len(inputs) > 1 else nbytes(inputs)
    return nbytes(inputs) + (0 if base.endswith("_") and len(inputs) > 1 else nbytes(outputs))


def nbytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of all that are on the device."""
    return sum(one.numel() * one.element_size() for one in tensors if isinstance(one, torch.Tensor) and one.is_cuda)
