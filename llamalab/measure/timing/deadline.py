"""The seconds of a run, and their division among its steps: time is a budget, on slow machines too.

A step takes a part of the remaining time, or is left out with a reason. Deadlines and measurements
(llamalab.measure.timing.clock) read the same clock.
"""

import math
import time
from collections.abc import Callable

ProgressCallback = Callable[[str, float], None]  # a step's name, and the share of the whole that is done


def part_of(progress: ProgressCallback, begun: float, over: float, words: str = "") -> ProgressCallback:
    """The progress of a step that goes from one share of the whole to another, `words` before its labels.

    >>> calls = []
    >>> part_of(lambda *one: calls.append(one), 0.5, 0.75, "fit, ")("round 1", 0.5)
    >>> calls
    [('fit, round 1', 0.625)]
    """
    return lambda label, done: progress(f"{words}{label}", begun + (over - begun) * done)


def now_s() -> float:
    """Seconds of the clock of all measurements."""
    return time.perf_counter_ns() / 1e9


class Deadline:
    """A point in time, so many seconds from now, on the clock `now`.

    >>> run = Deadline(60.0, now=lambda: 7.0)
    >>> run.left_s, run.part(0.5).left_s, run.fits(61.0)
    (60.0, 30.0, False)
    """

    def __init__(self, seconds: float, *, now: Callable[[], float] = now_s) -> None:
        self.seconds, self._now = seconds, now
        self._began_s = now()

    @property
    def spent_s(self) -> float:
        """Seconds since it was set."""
        return self._now() - self._began_s

    @property
    def left_s(self) -> float:
        """Seconds until it is reached, 0 after that."""
        return max(0.0, self.seconds - self.spent_s)

    def part(self, share: float, *, least_s: float = 0.0) -> "Deadline":
        """A deadline for a step with a share of the remaining time, and at least `least_s`."""
        return Deadline(max(least_s, share * self.left_s), now=self._now)

    def renewed(self) -> "Deadline":
        """The same seconds, from now."""
        return Deadline(self.seconds, now=self._now)

    def fits(self, seconds: float) -> bool:
        """Whether a step of so many seconds ends in time."""
        return seconds <= self.left_s


def unlimited() -> Deadline:
    """A deadline that is never reached."""
    return Deadline(math.inf)
