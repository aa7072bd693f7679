"""Predicted time of an attention call on this machine: the seconds of a call, and counted work times its unit cost.

The work is counted, not fitted:
  prefill   query-key pairs: all of them for naive, those of whole tiles for a flash kernel
  decode    bytes of K and V
The cost of a unit is measured at a few lengths of the same heads and batch, different from the requested ones,
and interpolated linearly over the logarithm of the length. The two shortest lengths give the seconds of a call without
work, which are most of a small one.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from llamalab.analytic.activations import attention_bytes, memory_of
from llamalab.analytic.attention_cost import AttentionShape, tile_pairs
from llamalab.attention import Backend
from llamalab.measure.attention.calls import FEW_TOKENS, measure_attention, obstacle
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.deadline import ProgressCallback
from llamalab.measure.timing.timer import Plan, time_ratio
from llamalab.records.record import AttentionPoint
from llamalab.units import storage_bytes

PROBE_PREFILL, PROBE_DECODE = (24, 96, 384, 1536), (12, 192, 1536, 12288)
_SLOW_S = 5.0  # a backend whose probe takes longer is not probed again
_PLAN, _VISITS = Plan(0.3, 3, 40), 3  # visits, so that a disturbance of one does not affect the others


class UnitCost(NamedTuple):
    """Seconds of a call without work, and per unit of work at probed lengths, shortest first."""

    lengths: tuple[int, ...]
    seconds: tuple[float, ...]
    call_s: float = 0.0

    def at(self, length: int) -> float:
        """Between two probes on a line over log(length); beyond them as at the last.

        >>> UnitCost((100, 400), (4.0, 2.0)).at(200)
        3.0
        """
        i = bisect_right(self.lengths, length)
        if i == 0 or i == len(self.lengths):
            return self.seconds[max(0, i - 1)]
        low, high = self.lengths[i - 1 : i + 1]
        share = math.log(length / low) / math.log(high / low)
        return self.seconds[i - 1] + share * (self.seconds[i] - self.seconds[i - 1])


_OF_SEVERAL = {"streamed": "sdpa", "mixed": "chunked"}  # what backends with loops for one query run for more


def unit_cost(probed: Mapping[int, tuple[int, float]]) -> UnitCost:
    """The costs that units of work and seconds at probed lengths give.

    >>> unit_cost({10: (100, 3.0), 20: (400, 6.0), 40: (1600, 34.0)})
    UnitCost(lengths=(10, 20, 40), seconds=(0.01, 0.01, 0.02), call_s=2.0)
    """
    lengths = tuple(sorted(probed))
    fastest_s = min(seconds for _, seconds in probed.values())
    call_s = min(fastest_s, _call_s(*(probed[length] for length in lengths[:2]))) if len(lengths) > 1 else 0.0
    return UnitCost(lengths, tuple((probed[n][1] - call_s) / probed[n][0] for n in lengths), call_s)


def _call_s(shorter: tuple[int, float], longer: tuple[int, float]) -> float:
    """Seconds of a call without work, where time grows with work from one probe to the next."""
    (few, few_s), (more, more_s) = shorter, longer
    each_s = max(0.0, more_s - few_s) / (more - few) if more > few else few_s / few
    return max(0.0, few_s - each_s * few)


class UnitCosts(NamedTuple):
    """Unit costs by backend name, for one kind of device."""

    device: str
    costs: dict[str, UnitCost]

    def seconds(self, shape: AttentionShape, backend: Backend) -> float | None:
        """Predicted time of a call; None where the backend could not be probed."""
        cost = self.costs.get(backend.name)
        return cost.call_s + cost.at(shape.context_tokens) * work(shape, backend, self.device) if cost else None


def work(shape: AttentionShape, backend: Backend, device: str) -> int:
    """The units of work of a call: pairs, or bytes of K and V.

    >>> from llamalab.attention import get_backend
    >>> work(AttentionShape(1, 1, 100, 8, 2, 64), get_backend("naive"), "cpu") == 2 * 2 * 100 * 64 * 2
    True
    """
    if shape.new_tokens <= FEW_TOKENS:
        return 2 * storage_bytes(shape.key_elements, shape.kv_dtype)
    if backend.algorithm == "naive":
        return shape.pairs_full
    return tile_pairs(shape, *kernel_tiles(backend.name, device, shape.new_tokens))


def kernel_tiles(backend: str, device: str, new_tokens: int) -> tuple[int, int]:
    """Queries and keys per tile of a kernel.

    CPU: ATen/native/cpu/FlashAttentionKernel.cpp, 512 keys and 32, 64 or 256 queries by length.
    Elsewhere: FlashAttention-2 at head dim 128.
    """
    if backend in ("tiled", "chunked", "mixed"):
        return 128, 1  # they stop at the last visible key
    if device != "cpu" or backend in ("flex", "triton"):
        return 128, 128
    return (256 if new_tokens >= 768 else 64 if new_tokens >= 192 else 32), 512


def kernel_peak_bytes(shape: AttentionShape, backend: Backend, device: str, threads: int) -> int | None:
    """Peak bytes of a call above q, k and v; None for a backend whose temporaries are not counted.

    The CPU's flash kernel adds per thread a tile of scores in fp32, in half precision a copy of it, the
    two running numbers per query, and the output in fp32.
    """
    name = backend.name if shape.new_tokens == 1 else _OF_SEVERAL.get(backend.name, backend.name)
    if name not in ("naive", "chunked", "sdpa", "flash", "cudnn", "efficient"):
        return None
    held = attention_bytes(shape, memory_of(name, backend.algorithm))
    if device != "cpu" or name in ("naive", "chunked"):
        return held
    queries, keys = map(min, kernel_tiles(name, device, shape.new_tokens), shape[1:3])
    copy = 0 if shape.dtype == "fp32" else storage_bytes(1, shape.dtype)
    return held + threads * queries * (keys * (4 + copy) + 2 * 4 + shape.head_dim * 4)


def probe_unit_costs(
    machine: Machine,
    like: AttentionShape,
    backends: list[Backend],
    progress: ProgressCallback = lambda label, done: None,
) -> UnitCosts:
    """Probe the backends at the heads, batch and dtype of `like`."""
    lengths, few = (PROBE_DECODE, like.new_tokens) if like.new_tokens <= FEW_TOKENS else (PROBE_PREFILL, None)
    probes = {length: like._replace(context_tokens=length, new_tokens=few or length) for length in lengths}
    visits: dict[int, list[list[AttentionPoint]]] = {length: [] for length in lengths}
    slow: set[str] = set()
    turns = [length for _ in range(_VISITS) for length in lengths]
    for turn, length in enumerate(turns):
        progress(f"at {length} tokens", turn / len(turns))
        running = [b for b in backends if b.name not in slow and not obstacle(machine, probes[length], b)]
        points = [point for point in measure_attention(machine, probes[length], running, _PLAN) if point.samples_s]
        slow |= {point.backend for point in points if sum(point.samples_s) > _SLOW_S}
        visits[length].append(points)
    seconds = {length: probed_seconds(found) for length, found in visits.items()}
    costs = {}
    for backend in backends:
        probed = {
            length: (work(probes[length], backend, machine.device.type), seconds[length][backend.name])
            for length in lengths
            if backend.name in seconds[length]
        }
        if probed:
            costs[backend.name] = unit_cost(probed)
    return UnitCosts(machine.device.type, costs)


def probed_seconds(visits: list[list[AttentionPoint]]) -> dict[str, float]:
    """Seconds by backend, from several visits to one length.

    Those of the first backend are from its fastest visit. The others are scaled by their ratio to it within the shared
    rounds, which a slow moment affects alike: the median over all visits.
    """
    first = [points[0] for points in visits if points]
    if not first:
        return {}
    base_s = min(median(point.samples_s) for point in first)
    ratios: dict[str, list[float]] = {}
    for points in filter(None, visits):
        for point in points:
            ratios.setdefault(point.backend, []).append(time_ratio(point.samples_s, points[0].samples_s))
    return {name: base_s * median(found) for name, found in ratios.items()}
