"""A ratio of two contestants' times in the same rounds, with its interval."""

import random
from collections.abc import Sequence
from statistics import median, quantiles
from typing import NamedTuple

from llamalab.measure.timing.timer import paired_ratio

_RESAMPLES = 2000


class Ratio(NamedTuple):
    """How many times as long one took as the other: the median over rounds, and where it lies with about 95 %."""

    middle: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """In a few characters.

        >>> Ratio(1.3, 1.25, 1.42).words
        '1.30 (1.25 to 1.42)'
        """
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(numerator_s: Sequence[float], denominator_s: Sequence[float], *, seed: int = 0) -> Ratio:
    """The ratio of times, a pair a round; the interval is that of medians of resampled rounds.

    >>> ratio([2.0, 4.0, 30.0], [1.0, 2.0, 10.0])
    Ratio(middle=2.0, low=2.0, high=3.0)
    """
    pairs, draw = list(zip(numerator_s, denominator_s, strict=True)), random.Random(seed)
    drawn = sorted(median(over / under for over, under in draw.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    low, high = (drawn[round(share * (_RESAMPLES - 1))] for share in (0.025, 0.975))
    return Ratio(paired_ratio(list(numerator_s), list(denominator_s)), low, high)


def quartiles(numerator_s: list[float], denominator_s: list[float]) -> dict[str, float]:
    """The ratio of times, a pair a round: its median and the quartiles of the rounds, as records keep it.

    >>> quartiles([2.0, 4.0, 30.0], [1.0, 2.0, 10.0])
    {'median': 2.0, 'p25': 2.0, 'p75': 3.0}
    """
    first, _, third = quantiles([over / under for over, under in zip(numerator_s, denominator_s, strict=True)], n=4)
    return {
        "median": round(paired_ratio(numerator_s, denominator_s), 4),
        "p25": round(first, 4),
        "p75": round(third, 4),
    }
