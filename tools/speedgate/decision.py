"""The rule that says slower: on ratios to a reference that ran in the same rounds.

    a run        r_median = median over rounds of benchmark / reference
                 r_low    = tenth percentile of benchmark / tenth percentile of reference
    slower by    the lower two fifths over runs of (r of the candidate / r of the base that took turns with it) - 1:
                 the least of three, the third of six, the fourth of nine
    it fails     where both r_median and r_low are slower by more than THRESHOLD
    unclear      where it does not fail, and half of the runs or more are slow by one of the two: more runs decide

A round that came out too fast moves a minimum by as much as it is wrong and a low percentile not at all; a run that is
wrong as a whole, of the base or of the candidate, is outvoted by those that follow. How the threshold was chosen, and
what it catches, is in docs/benchmarks.md.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

THRESHOLD = 0.04
MOST_SETS = 3  # of runs, while they are unclear
_LOW = 10  # of a hundred rounds so many are faster: the rounds that little disturbed, and not the luckiest


class Ratios(NamedTuple):
    """One run of one benchmark, in times of its reference."""

    median: float
    low: float


class Decision(NamedTuple):
    """By how much the candidate is slower than the base in all but its best runs; negative is faster."""

    slower_median: float
    slower_low: float
    fails: bool
    unclear: bool


def ratios(reference_ns: Sequence[int], benchmark_ns: Sequence[int]) -> Ratios:
    """The two statistics of one run; rounds are paired.

    >>> ratios([10, 20, 10], [30, 62, 35])
    Ratios(median=3.1, low=3.0)
    """
    pairs = zip(benchmark_ns, reference_ns, strict=True)
    return Ratios(median(over / under for over, under in pairs), _low(benchmark_ns) / _low(reference_ns))


def decide(base: Sequence[Ratios], candidate: Sequence[Ratios], *, threshold: float = THRESHOLD) -> Decision:
    """Hold every run of the candidate against the base's run of the same place.

    >>> base = [Ratios(2.0, 1.9), Ratios(2.0, 2.0), Ratios(2.2, 2.1)]
    >>> decide(base, [Ratios(2.4, 2.2), Ratios(2.3, 2.3), Ratios(2.9, 2.3)]).fails
    True
    >>> decide(base, [Ratios(2.4, 2.2), Ratios(2.3, 2.02), Ratios(2.9, 2.3)])[2:]  # one run is not slow by low
    (False, True)
    """
    pairs = list(zip(candidate, base, strict=True))
    slower = [
        [new.median / old.median - 1 for new, old in pairs],
        [new.low / old.low - 1 for new, old in pairs],
    ]
    by_median, by_low = map(_lower, slower)
    fails = min(by_median, by_low) > threshold
    return Decision(by_median, by_low, fails, not fails and max(map(median, slower)) > threshold)


def _low(times_ns: Sequence[int]) -> int:
    return sorted(times_ns)[len(times_ns) * _LOW // 100]


def _lower(values: Sequence[float]) -> float:
    return sorted(values)[(len(values) - 1) * 2 // 5]
