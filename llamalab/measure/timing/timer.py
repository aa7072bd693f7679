"""Timing: rounds of several variants, interleaved, raw samples kept.

Variants that are compared run in the same rounds, in alternating order, so that a machine that
slows down slows all of them. The garbage collector is off. On CUDA the device is waited for once,
after the last round.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from llamalab.measure.timing.clock import Clock

Work = Callable[[], object]


class Plan(NamedTuple):
    """How much to measure: at least `least` rounds, more up to `most` while `budget_s` lasts.

    Before that each variant runs `warmup` times, and on until it has run `warmup_s` seconds.
    """

    budget_s: float = 1.0
    least: int = 5
    most: int = 50
    warmup: int = 2
    warmup_s: float = 0.025


_MOST_WARMUPS, _LONG_S = 100, 0.5


def time_variants(
    variants: Mapping[str, Work], clock: Clock, plan: Plan, *, before: Work | None = None
) -> dict[str, list[float]]:
    """Seconds of each variant, one sample per round, in the order of the rounds.

    `before` runs ahead of every sample and outside it, to flush a cache or to rewind state.
    """
    with collector_off():
        estimate_s = sum(_warm_up(work, clock, plan, before) for work in variants.values())
        rounds = _rounds(estimate_s, plan)
        names = [name for turn in range(rounds) for name in _order(list(variants), turn)]
        for name in names:
            if before is not None:
                before()
            clock.mark()
            variants[name]()
            clock.mark()
        # Marks come in pairs: the odd intervals lie between samples.
        times = clock.read()[::2]
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for name, seconds in zip(names, times, strict=True):
        samples[name].append(seconds)
    return samples


def time_one(work: Work, clock: Clock, plan: Plan, *, before: Work | None = None) -> list[float]:
    """Seconds of one thing, one sample per round."""
    return time_variants({"": work}, clock, plan, before=before)[""]


def paired_ratio(numerator_s: list[float], denominator_s: list[float]) -> float:
    """Median over rounds of one variant's time over another's in the same round.

    >>> paired_ratio([2.0, 4.0, 30.0], [1.0, 2.0, 10.0])
    2.0
    """
    return median(over / under for over, under in zip(numerator_s, denominator_s, strict=True))


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection before the block ends."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _warm_up(work: Work, clock: Clock, plan: Plan, before: Work | None) -> float:
    """Run until warm; the shortest run is the estimate of the next."""
    runs: list[float] = []
    while len(runs) < plan.warmup or (sum(runs) < plan.warmup_s and len(runs) < _MOST_WARMUPS):
        if before is not None:
            before()
        clock.mark()
        work()
        clock.mark()
        runs += clock.read()
        if runs[-1] > _LONG_S:
            break  # long enough to be warm, too long to be done twice
    return min(runs)


def _rounds(estimate_s: float, plan: Plan) -> int:
    affordable = plan.most if estimate_s <= 0 else int(plan.budget_s / estimate_s)
    return max(plan.least, min(plan.most, affordable))


def _order(names: list[str], turn: int) -> list[str]:
    return names if turn % 2 == 0 else names[::-1]
