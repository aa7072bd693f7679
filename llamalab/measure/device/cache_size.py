"""The effective size of the last-level cache: the largest working set that is read faster than memory.

The reported size is not reliable: a virtual machine of two cores may report the 480 MiB of its host and be able to
use 30 of them, or report nothing. So prefixes of a buffer of increasing length are summed. Short ones are read from a
cache; from some length on all take the same time per byte. The effective cache size is the longest prefix read at
least a quarter faster than all prefixes of twice its length and more.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch

from llamalab.measure.device.machine import cache_bytes, clock_for, device_of, probe_budget_bytes, release_memory
from llamalab.measure.timing.clock import Clock
from llamalab.measure.timing.deadline import now_s
from llamalab.measure.timing.timer import Plan, time_one

MOST_CACHE_BYTES = 2**28  # largest cache; working sets up to twice as large are tried
LEAST_CACHE_BYTES = 2**20
SWEEP_S = 1.0
_FASTER = 1.25
_ROUNDS = 4
_SAMPLE_BYTES = 2**24  # short prefixes are repeated until a sample reads this many bytes, for the clock's resolution
_ONCE = Plan(0.0, 1, 1, 1, 0.0)

Rate = Callable[[int], float]


@cache
def effective_cache_bytes(device: torch.device) -> int:
    """Effective bytes of the last-level cache, from LEAST_CACHE_BYTES to MOST_CACHE_BYTES.

    A working set twice as large comes from memory. On a CPU it is measured by the first call, in about SWEEP_S seconds
    and within `probe_budget_bytes`; later calls return the same.
    A size that the driver reports reliably is not measured.
    """
    if device_of(device).trusts_cache_size:
        return max(LEAST_CACHE_BYTES, min(MOST_CACHE_BYTES, cache_bytes(device)))
    sizes = swept_sizes(min(2 * MOST_CACHE_BYTES, probe_budget_bytes(device)))
    measured = sweep_working_sets(sizes, reader(sizes[-1], clock_for(device)), SWEEP_S)
    release_memory(device)
    return measured


def swept_sizes(most_bytes: int) -> list[int]:
    """Sizes of working sets, two to an octave, from LEAST_CACHE_BYTES to at most `most_bytes`; at least the first.

    >>> [size / 2**20 for size in swept_sizes(2**22)]
    [1.0, 1.5, 2.0, 3.0, 4.0]
    """
    octaves = range(max(1, (most_bytes // LEAST_CACHE_BYTES).bit_length()))
    sizes = [factor * (LEAST_CACHE_BYTES << octave) // 2 for octave in octaves for factor in (2, 3)]
    return [size for size in sizes if size <= most_bytes] or [LEAST_CACHE_BYTES]


def sweep_working_sets(sizes: Sequence[int], rate_of: Rate, budget_s: float) -> int:
    """The largest of `sizes` that is read faster than larger ones are.

    `rate_of(size)` reads a working set and returns byte/s. Sizes grow for half of the time, at least two of them; in
    the other half rounds repeat all that were tried, and the best of each is used: a disturbance only lowers a rate.
    """
    best: dict[int, float] = {}
    spent_s = 0.0
    for turn in range(_ROUNDS):
        limit_s = budget_s / 2 if turn == 0 else budget_s
        for size in sizes if turn == 0 else list(best):
            if spent_s > limit_s and len(best) > 1:
                break
            began_s = now_s()
            rate = rate_of(size)
            best[size] = max(rate, best.get(size, 0.0))
            # Reading the first time, and a busy machine, are in the time.
            spent_s += max(max(size, _SAMPLE_BYTES) / rate, now_s() - began_s)
    return largest_cached(best)


def largest_cached(rates: dict[int, float]) -> int:
    """The largest working set that is a quarter faster than any of twice its size or more; the smallest where none is.

    At least two larger ones must be slower: one slow reading may be a disturbance.

    >>> largest_cached({1: 90.0, 2: 60.0, 4: 9.0, 8: 58.0, 16: 10.0, 32: 10.0})
    8
    >>> largest_cached({1: 90.0, 2: 60.0, 4: 30.0, 8: 31.0, 16: 30.0, 32: 20.0})
    2
    """

    def cached(size: int) -> bool:
        larger = sorted(other for other in rates if other > size)
        doubled = [other for other in larger if other >= 2 * size]
        compared = doubled if len(doubled) > 1 else larger
        return len(larger) > 1 and rates[size] > _FASTER * max(rates[other] for other in compared)

    return max(filter(cached, rates), default=min(rates))


def reader(most_bytes: int, clock: Clock) -> Rate:
    """A function that gives byte/s of a sum over the first bytes of one buffer, which is read before it is timed."""
    buffer = torch.ones(most_bytes // 4, dtype=torch.float32)

    def read(piece: torch.Tensor, times: int) -> None:
        for _ in range(times):
            piece.sum()

    def rate_of(size: int) -> float:
        times = max(1, _SAMPLE_BYTES // size)
        seconds = min(time_one(partial(read, buffer[: size // 4], times), clock, _ONCE))
        return size * times / max(seconds, 1e-9)

    return rate_of
