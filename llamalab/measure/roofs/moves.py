"""Roofs of moving data without products: copies and sums, far larger than the caches or inside one."""

from collections.abc import Callable
from dataclasses import replace

import torch

from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import device_of
from llamalab.measure.roofs.best import SURVEY, Candidate, Probe, best_roof, deferred, repeated
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import time_one
from llamalab.records.roof import Roof

_SMALL_MOVES_BYTES, _MOVES_BYTES = (1 << 17, 1 << 19), 1 << 22
# Of an accelerator the largest move that its cache serves counts, as the gap between two kernels costs that one least.
# The share of its size that it serves is unknown, and found by wide steps, then by fine ones, over many moves.
_WIDE, _FINE_STEPS, _DEVICE_MOVES = 1.25, 5, 100
_LEAST_SHARE, _WIDE_STEPS = 0.3, 6  # shares of the cache that a move touches, from 0.3 to 0.9


def copy_roof(machine: Machine) -> Roof:
    """Byte/s, read plus written, of a copy and of a sum far larger than the caches."""
    return best_roof("copy", machine, _moves(machine, machine.stream_bytes // 4))


def cache_roof(machine: Machine) -> Roof:
    """Byte/s, read plus written, of a copy and of a sum that stay in the last-level cache, or in a closer one.

    Of a device with graphs many in one graph: launched one by one they show the launches.
    """
    capacity = effective_cache_bytes(machine.device)
    if device_of(machine.device).role == "accelerator":
        touched = _best_touched(machine, min(capacity, machine.stream_bytes // 2))
        copies = [int(touched * _WIDE ** (step / _FINE_STEPS)) // 2 for step in range(_FINE_STEPS)]
        moves = [*((_copy, size) for size in copies), (_sum, int(touched) // 3)]
        return replace(
            best_roof("cache", machine, [deferred(_queued, machine, *move) for move in moves]), capacity_bytes=capacity
        )
    # The three tensors of the doubled probe fill 3/8 of the cache.
    largest = min(capacity // 16, machine.stream_bytes // 4)
    sizes = [size for size in (*_SMALL_MOVES_BYTES, largest) if size <= largest]
    roof = best_roof("cache", machine, [one for size in sizes for one in _moves(machine, size)])
    return replace(roof, capacity_bytes=capacity)


def _moves(machine: Machine, size_bytes: int) -> list[Candidate]:
    """A copy and a sum of two tensors of that size; small ones are repeated, for the clock's resolution."""
    return [deferred(move, machine, size_bytes, max(1, _MOVES_BYTES // size_bytes)) for move in (_copy, _sum)]


def _best_touched(machine: Machine, capacity: int) -> float:
    """Bytes that a copy touches at which it is the fastest, by wide steps over shares of the cache."""

    def rate(touched: float) -> float:
        probe = _queued(machine, _copy, int(touched) // 2)
        return probe.amount / min(time_one(probe.once, machine.clock, machine.within(SURVEY)))

    return max((_LEAST_SHARE * capacity * _WIDE**step for step in range(_WIDE_STEPS)), key=rate)


def _queued(machine: Machine, move: Callable[[Machine, int, int], Probe], size_bytes: int) -> Probe:
    """Many moves and twice as many, each as a graph where the device records them."""
    probe, device = move(machine, size_bytes, _DEVICE_MOVES), device_of(machine.device)
    if not device.graph_fill_s:
        return probe
    return probe._replace(once=device.graph(probe.once), twice=device.graph(probe.twice))


def _copy(machine: Machine, size_bytes: int, times: int) -> Probe:
    elements = max(1, size_bytes // machine.torch_dtype.itemsize)
    source, target = (machine.random(2 * elements) for _ in range(2))
    once = repeated(deferred(target[:elements].copy_, source[:elements]), times)
    twice = repeated(deferred(target.copy_, source), times) if times == 1 else repeated(once, 2)
    return Probe(f"copy of {size_bytes / 2**20:.3g} MiB", 2.0 * size_bytes * times, once, twice)


def _sum(machine: Machine, size_bytes: int, times: int) -> Probe:
    elements = max(1, size_bytes // machine.torch_dtype.itemsize)
    source, other, target = (machine.random(2 * elements) for _ in range(3))
    a, b, c = source[:elements], other[:elements], target[:elements]
    once = repeated(deferred(torch.add, a, b, out=c), times)
    twice = repeated(deferred(torch.add, source, other, out=target), times) if times == 1 else repeated(once, 2)
    return Probe(f"sum of two of {size_bytes / 2**20:.3g} MiB", 3.0 * size_bytes * times, once, twice)
