"""Repetitions of a test until they agree, within a time budget; remaining disagreement is reported as a reason.

A disturbance only ever adds time: of a repeated test the fastest repetitions are kept, as many as were asked for. A
test is steady while the slowest kept repetition takes at most STEADY_SPREAD longer than the fastest.
"""

from collections.abc import Callable
from typing import NamedTuple

from llamalab.measure.timing.deadline import Deadline

STEADY_SPREAD = 0.15
_MOST_TURNS = 4  # repetitions at most, as a multiple of those asked for


class Steady(NamedTuple):
    """Seconds of the passes of the kept repetitions, in order, and reasons why they are unsteady, if any."""

    passes_s: list[list[float]]
    reasons: list[str]


def repeat_steadily(repetition: Callable[[int], list[float]], wanted: int, more: Deadline) -> Steady:
    """`wanted` repetitions, and more while they disagree and the deadline, which begins after those, lasts.

    >>> times = iter([1.0, 2.0, 1.01, 1.02])
    >>> repeat_steadily(lambda number: [next(times)], 2, Deadline(9.0, now=lambda: 0.0)).passes_s
    [[1.0], [1.01]]
    """
    passes_s = [repetition(number) for number in range(wanted)]
    more = more.renewed()
    first = _spread(passes_s)
    while _spread(_fastest(passes_s, wanted)) > STEADY_SPREAD and len(passes_s) < _MOST_TURNS * wanted:
        if not more.fits(max(map(sum, passes_s[-wanted:]))):
            break
        passes_s.append(repetition(len(passes_s)))
    kept = _fastest(passes_s, wanted)
    return Steady(kept, list(_reasons(first, _spread(kept), len(passes_s) - wanted)))


def _reasons(first: float, last: float, repeated: int) -> list[str]:
    if first <= STEADY_SPREAD:
        return []
    if last <= STEADY_SPREAD:
        return [f"repetitions up to {100 * first:.0f} % apart; steady after {repeated} more, the slowest left out"]
    after = f" after {repeated} more" if repeated else ""
    return [f"repetitions up to {100 * last:.0f} % apart{after}"]


def _fastest(passes_s: list[list[float]], wanted: int) -> list[list[float]]:
    """The fastest repetitions, in the order they were run in."""
    ranked = sorted(range(len(passes_s)), key=lambda number: sum(passes_s[number]))[:wanted]
    return [passes_s[number] for number in sorted(ranked)]


def _spread(passes_s: list[list[float]]) -> float:
    """Slowest over fastest, minus 1."""
    seconds = [sum(one) for one in passes_s]
    return max(seconds) / min(seconds) - 1
