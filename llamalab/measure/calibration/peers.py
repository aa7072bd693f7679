"""Processes that calibrate at once, in step: what several of them reach together is not what one reaches alone.

Ranks of a CPU share its memory. Where each went through its passes by itself, the best time of a row would be that of
a moment when the others built or computed, and a product would seem to have the memory to itself. In step all run the
same row at the same moment, and the typical time counts, not the best: what peers take from each other is no
disturbance.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

from llamalab.measure.timing.deadline import Deadline, now_s

T = TypeVar("T")


class Peers:
    """Those that calibrate beside this process: none. `sharing` counts the processes that take of one memory.

    >>> Peers().agree(3), Peers().typical([2.0, 1.0, 4.0])
    (3, 1.0)
    """

    sharing = 1

    def agree(self, value: T) -> T:
        """The value that counts for all; here the process's own."""
        return value

    def meet(self) -> None:
        """Go on when all are here."""

    def typical(self, times_s: Sequence[float]) -> float:
        """The time of a row that ran so often: the best, as a disturbance only ever adds time."""
        return min(times_s)


class InStep(Peers):
    """Peers that do everything together: one decides what fits into the time, and typical is the median."""

    def typical(self, times_s: Sequence[float]) -> float:
        """The median: a best time is of a moment when a peer did not disturb."""
        return median(times_s)


class AgreedDeadline(Deadline):
    """A deadline by which all peers decide alike what fits."""

    def __init__(self, seconds: float, peers: Peers, *, now: Callable[[], float] = now_s) -> None:
        super().__init__(seconds, now=now)
        self._peers = peers

    def part(self, share: float, *, least_s: float = 0.0) -> "AgreedDeadline":
        """As Deadline.part; decided alike too."""
        return AgreedDeadline(max(least_s, share * self.left_s), self._peers, now=self._now)

    def fits(self, seconds: float) -> bool:
        """Whether a step of so many seconds would be done in time, as the one that decides sees it."""
        return self._peers.agree(super().fits(seconds))
