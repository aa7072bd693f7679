"""Roofs of moving data without products: copies and sums, far larger than the caches or inside one."""

from collections.abc import Callable
from dataclasses import replace

import torch

from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import device_of
from llamalab.measure.roofs.best import Candidate, Probe, best_roof, deferred, repeated
from llamalab.measure.roofs.machine import Machine
from llamalab.records.roof import Roof

_SMALL_MOVES_BYTES, _MOVES_BYTES = (1 << 17, 1 << 19), 1 << 22
# With graphs: cache size over that of a tensor, of which the fastest is used; and moves in a graph.
_CACHE_PARTS, _GRAPH_MOVES = (4, 5, 6, 8), 100


def copy_roof(machine: Machine) -> Roof:
    """Byte/s, read plus written, of a copy and of a sum far larger than the caches."""
    return best_roof("copy", machine, _moves(machine, machine.stream_bytes // 4))


def cache_roof(machine: Machine) -> Roof:
    """Byte/s, read plus written, of a copy and of a sum that stay in the last-level cache, or in a closer one.

    On a device with graphs many calls in one graph, since single launches would dominate.
    """
    capacity = effective_cache_bytes(machine.device)
    if device_of(machine.device).graph_fill_s:
        parts = [min(capacity // part, machine.stream_bytes // 4) for part in _CACHE_PARTS]
        graphed = [deferred(_graphed, machine, move, size) for size in parts for move in (_copy, _sum)]
        return replace(best_roof("cache", machine, graphed), capacity_bytes=capacity)
    # The three tensors of the doubled probe fill 3/8 of the cache.
    largest = min(capacity // 16, machine.stream_bytes // 4)
    sizes = [size for size in (*_SMALL_MOVES_BYTES, largest) if size <= largest]
    roof = best_roof("cache", machine, [one for size in sizes for one in _moves(machine, size)])
    return replace(roof, capacity_bytes=capacity)


def _moves(machine: Machine, size_bytes: int) -> list[Candidate]:
    """A copy and a sum of two tensors of that size; small ones are repeated, for the clock's resolution."""
    return [deferred(move, machine, size_bytes, max(1, _MOVES_BYTES // size_bytes)) for move in (_copy, _sum)]


def _graphed(machine: Machine, move: Callable[[Machine, int, int], Probe], size_bytes: int) -> Probe:
    """The moves and twice as many, each as a graph."""
    probe, graph = move(machine, size_bytes, _GRAPH_MOVES), device_of(machine.device).graph
    return probe._replace(once=graph(probe.once), twice=graph(probe.twice))


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
