"""Timing: rounds of several variants, interleaved, raw samples kept.

Compared variants run in the same rounds, in alternating order, so that a slowdown of the machine affects all of them.
The garbage collector is off. An asynchronous device is held before every sample for as long as the host took to launch
it in the warm-up, so that it never waits for the host within a sample; it is synchronised once, after the last round.
"""

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from llamalab.measure.timing.clock import Clock
from llamalab.measure.timing.deadline import Deadline, now_s

Call = Callable[[], object]


class Plan(NamedTuple):
    """How much to measure: at least `least` rounds, more up to `most` while `budget_s` lasts.

    Before that each variant runs `warmup` times, and on until it has run `warmup_s` seconds; a run of more than half a
    second ends that, and the first round then determines how many follow, since a cold run predicts none. All of it
    ends within `limit_s` seconds if one run of each variant does: rounds and warm-up become fewer, and where no round
    fits after the warm-up, its last run is the sample.
    """

    budget_s: float = 1.0
    least: int = 5
    most: int = 50
    warmup: int = 2
    warmup_s: float = 0.025
    limit_s: float = math.inf

    def within(self, deadline: Deadline) -> "Plan":
        """The same plan, limited to the deadline.

        >>> Plan(3.0).within(Deadline(1.0, now=lambda: 0.0)).budget_s
        1.0
        """
        return self._replace(budget_s=min(self.budget_s, deadline.left_s), limit_s=min(self.limit_s, deadline.left_s))


PRIOR_SPREAD = 0.1  # seconds of a round, before the first one
AHEAD = 1.25  # hold before a sample, as a multiple of the host's seconds to launch it
_MOST_WARMUPS, _LONG_S = 100, 0.5


def time_variants(
    variants: Mapping[str, Call], clock: Clock, plan: Plan, *, before: Call | None = None
) -> dict[str, list[float]]:
    """Seconds of each variant, one sample per round, in the order of the rounds.

    `before` runs ahead of every sample, untimed, to flush a cache or to rewind state.
    """
    with collector_off():
        share = plan._replace(limit_s=plan.limit_s / len(variants))
        warm = {name: _warm_up(work, clock, share, before) for name, work in variants.items()}
        left_s = plan.limit_s - sum(sum(one.runs_s) for one in warm.values())
        rounds = _rounds(sum(min(one.runs_s, default=0.0) for one in warm.values()), plan, left_s)
        if not rounds:
            return {name: one.runs_s[-1:] for name, one in warm.items()}
        cold = any(len(one.runs_s) == 1 for one in warm.values())
        samples: dict[str, list[float]] = {name: [] for name in variants}
        _run_rounds(range(1 if cold else rounds), variants, warm, clock, before, samples)
        if cold:
            round_s = sum(map(sum, samples.values()))
            _run_rounds(range(1, _rounds(round_s, plan, left_s)), variants, warm, clock, before, samples)
    return samples


def time_one(work: Call, clock: Clock, plan: Plan, *, before: Call | None = None) -> list[float]:
    """Seconds of one call, one sample per round."""
    return time_variants({"": work}, clock, plan, before=before)[""]


def paired_ratio(numerator_s: list[float], denominator_s: list[float]) -> float:
    """Median over rounds of one variant's time over another's in the same round.

    >>> paired_ratio([2.0, 4.0, 30.0], [1.0, 2.0, 10.0])
    2.0
    """
    return median(over / under for over, under in zip(numerator_s, denominator_s, strict=True))


def time_ratio(numerator_s: list[float], denominator_s: list[float]) -> float:
    """The ratio of two variants' times: paired where there are as many rounds, else of their medians.

    >>> time_ratio([2.0, 4.0, 30.0], [2.0])
    2.0
    """
    if len(numerator_s) == len(denominator_s):
        return paired_ratio(numerator_s, denominator_s)
    return median(numerator_s) / median(denominator_s)


def median_error(samples_s: list[float]) -> float:
    """Relative half-width of the interval about the median of some rounds that holds the true median with about 95 %.

    Twice the standard error of a median (1.25 s / sqrt(n)); since few rounds underestimate their spread, a prior spread
    of PRIOR_SPREAD counts as one further round.

    >>> [round(median_error([1.0] * rounds), 3) for rounds in (1, 4, 16)]
    [0.25, 0.062, 0.016]
    """
    middle, rounds = median(samples_s), len(samples_s)
    variance = sum((one - middle) ** 2 for one in samples_s) / max(1, rounds - 1) / middle**2
    return float(2 * 1.25 * ((variance + PRIOR_SPREAD**2 / rounds) / rounds) ** 0.5)


@contextmanager
def collector_off() -> Iterator[None]:
    """Disables garbage collection for the block."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Warm(NamedTuple):
    """Seconds of the warm-up runs, and the least host time to launch one."""

    runs_s: list[float]
    launch_s: float


def _run_rounds(
    turns: range,
    variants: Mapping[str, Call],
    warm: Mapping[str, _Warm],
    clock: Clock,
    before: Call | None,
    samples: dict[str, list[float]],
) -> None:
    """Run the rounds and append their seconds to the samples."""
    names = [name for turn in turns for name in _order(list(variants), turn)]
    for name in names:
        if before is not None:
            before()
        clock.hold(AHEAD * warm[name].launch_s)
        clock.mark()
        variants[name]()
        clock.mark()
    # Marks come in pairs: odd intervals lie between samples.
    for name, seconds in zip(names, clock.read()[::2], strict=True):
        samples[name].append(seconds)


def _warm_up(work: Call, clock: Clock, plan: Plan, before: Call | None) -> _Warm:
    """Run until warm; the shortest run is the estimate of the next."""
    runs_s: list[float] = []
    launch_s = math.inf
    while len(runs_s) < plan.warmup or (sum(runs_s) < plan.warmup_s and len(runs_s) < _MOST_WARMUPS):
        if before is not None:
            before()
        began_s = now_s()
        clock.mark()
        work()
        clock.mark()
        launch_s = min(launch_s, now_s() - began_s)
        runs_s += clock.read()
        if runs_s[-1] > _LONG_S or sum(runs_s) + runs_s[-1] > plan.limit_s:
            break  # long enough to be warm, too long to run twice
    return _Warm(runs_s, launch_s if runs_s else 0.0)


def _rounds(estimate_s: float, plan: Plan, left_s: float) -> int:
    """Rounds of so many seconds, at most as many as fit into the remaining time; 0 where none does."""
    if estimate_s <= 0:  # below the clock's resolution, or not warmed up
        return plan.most
    wanted = max(plan.least, min(plan.most, int(plan.budget_s / estimate_s)))
    return wanted if wanted * estimate_s <= left_s else int(max(0.0, left_s) / estimate_s)


def _order(names: list[str], turn: int) -> list[str]:
    return names if turn % 2 == 0 else names[::-1]
