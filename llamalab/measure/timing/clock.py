"""Timestamps that cost little and never make the device wait.

A clock is marked as often as one likes and read once. Where a device works behind the host, a sample is of the device
alone only if the host is ahead of it: `hold` lets the device wait before the sample. A clock of the host is here; those
of other devices are in llamalab.measure.device, and llamalab.measure.device.machine.clock_for chooses.
"""

import time
from itertools import pairwise
from typing import Protocol


class Clock(Protocol):
    """Marks moments; `read` gives the seconds between successive marks and forgets them."""

    def mark(self) -> None:
        """Note this moment (on an accelerator: the moment the device gets here)."""

    def hold(self, seconds: float) -> None:
        """Let the device wait so long before what comes next, which the host launches meanwhile."""

    def read(self) -> list[float]:
        """Seconds between successive marks, one fewer than there were marks."""


class HostClock:
    """The host's monotonic clock, in whole nanoseconds."""

    def __init__(self) -> None:
        self._marks_ns: list[int] = []

    def mark(self) -> None:
        self._marks_ns.append(time.perf_counter_ns())

    def hold(self, seconds: float) -> None:
        """Nothing is ever behind the host."""

    def read(self) -> list[float]:
        marks, self._marks_ns = self._marks_ns, []
        return [(end - start) / 1e9 for start, end in pairwise(marks)]
