"""Processes that calibrate at once, in step, because they share memory bandwidth.

Ranks of a CPU share its memory. If each ran its passes alone, the best time of a row would be from a moment when the
others were building or computing, and a product would be measured with the whole bandwidth. In step all run the same
row at the same moment, and the median time is used instead of the best: contention between peers is part of the
result.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

from llamalab.measure.timing.deadline import Deadline, now_s

T = TypeVar("T")


class Peers:
    """No peers: a single process. `sharing` is the number of processes that share one memory.

    >>> Peers().agree(3), Peers().typical([2.0, 1.0, 4.0])
    (3, 1.0)
    """

    sharing = 1

    def agree(self, value: T) -> T:
        """The value that all peers use; here the process's own."""
        return value

    def meet(self) -> None:
        """A barrier: wait until all peers are here."""

    def typical(self, times_s: Sequence[float]) -> float:
        """The typical one of a row's times: the best, as a disturbance only ever adds time."""
        return min(times_s)


class InStep(Peers):
    """Peers that act together: one decides which passes fit into the time, and the typical time is the median."""

    def typical(self, times_s: Sequence[float]) -> float:
        """The median: a best time is from a moment without contention by a peer."""
        return median(times_s)


class AgreedDeadline(Deadline):
    """A deadline whose decisions are the same on all peers."""

    def __init__(self, seconds: float, peers: Peers, *, now: Callable[[], float] = now_s) -> None:
        super().__init__(seconds, now=now)
        self._peers = peers

    def part(self, share: float, *, least_s: float = 0.0) -> "AgreedDeadline":
        """As Deadline.part; its decisions are also shared."""
        return AgreedDeadline(max(least_s, share * self.left_s), self._peers, now=self._now)

    def fits(self, seconds: float) -> bool:
        """Whether a step of so many seconds ends in time, by the clock of the deciding peer."""
        return self._peers.agree(super().fits(seconds))
