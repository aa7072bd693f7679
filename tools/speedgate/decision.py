"""The rule that says slower: on ratios to a reference that ran in the same rounds.

    a run        r_median = median over rounds of subject / reference
                 r_shortest = shortest subject / shortest reference
    slower by    min over runs of (r of the candidate / r of the base that took turns with it) - 1
    it fails     where both r_median and r_shortest are slower by more than THRESHOLD

All of a candidate's runs must be slow by both statistics, so what disturbs one run or one of them fails nothing.
How the threshold was chosen, and what it catches, is in docs/benchmarks.md.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

THRESHOLD = 0.04


class Ratios(NamedTuple):
    """One run of one subject, in times of its reference."""

    median: float
    shortest: float


class Decision(NamedTuple):
    """By how much the candidate is slower than the base in its best run, by each statistic; negative is faster."""

    slower_median: float
    slower_shortest: float
    fails: bool


def ratios(reference_ns: Sequence[int], subject_ns: Sequence[int]) -> Ratios:
    """The two statistics of one run; rounds are paired.

    >>> ratios([10, 20, 10], [30, 62, 35])
    Ratios(median=3.1, shortest=3.0)
    """
    pairs = zip(subject_ns, reference_ns, strict=True)
    return Ratios(median(over / under for over, under in pairs), min(subject_ns) / min(reference_ns))


def decide(base: Sequence[Ratios], candidate: Sequence[Ratios], *, threshold: float = THRESHOLD) -> Decision:
    """Hold every run of the candidate against the base's run of the same place.

    >>> base = [Ratios(2.0, 1.9), Ratios(2.0, 2.0), Ratios(2.2, 2.1)]
    >>> decide(base, [Ratios(2.4, 2.2), Ratios(2.3, 2.3), Ratios(2.9, 2.3)]).fails
    True
    >>> decide(base, [Ratios(2.4, 2.2), Ratios(2.3, 2.02), Ratios(2.9, 2.3)]).fails  # one run's shortest is not slow
    False
    """
    pairs = list(zip(candidate, base, strict=True))
    by_median = min(new.median / old.median for new, old in pairs) - 1
    by_shortest = min(new.shortest / old.shortest for new, old in pairs) - 1
    return Decision(by_median, by_shortest, by_median > threshold and by_shortest > threshold)
