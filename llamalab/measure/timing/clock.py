"""Timestamps with little cost and without synchronisation of the device.

A clock takes any number of marks and is read once. On an asynchronous device a sample excludes the host only if the
host is ahead: `hold` delays the device before the sample. The clock of the host is here; those of other devices are in
llamalab.measure.device, and llamalab.measure.device.machine.clock_for chooses.
"""

import time
from itertools import pairwise
from typing import Protocol


class Clock(Protocol):
    """Marks moments; `read` gives the seconds between successive marks and forgets them."""

    def mark(self) -> None:
        """Note this moment (on an accelerator: the moment the device gets here)."""

    def hold(self, seconds: float) -> None:
        """Delay the device for so many seconds, during which the host launches the work that follows."""

    def read(self) -> list[float]:
        """Seconds between successive marks, one fewer than there were marks."""


class HostClock:
    """The host's monotonic clock, in whole nanoseconds."""

    def __init__(self) -> None:
        self._marks_ns: list[int] = []

    def mark(self) -> None:
        self._marks_ns.append(time.perf_counter_ns())

    def hold(self, seconds: float) -> None:
        """Does nothing: the host has no queue."""

    def read(self) -> list[float]:
        marks, self._marks_ns = self._marks_ns, []
        return [(end - start) / 1e9 for start, end in pairwise(marks)]
