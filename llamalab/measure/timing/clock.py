"""Timestamps that cost little and never make the device wait.

A clock is marked as often as one likes and read once. On a CPU a mark is perf_counter_ns; on CUDA
it is an event put into the stream, and reading waits for the device a single time.
"""

import time
from itertools import pairwise
from typing import Protocol

import torch


class Clock(Protocol):
    """Marks moments; `read` gives the seconds between successive marks and forgets them."""

    def mark(self) -> None:
        """Note this moment (on CUDA: the moment the device gets here)."""

    def read(self) -> list[float]:
        """Seconds between successive marks, one fewer than there were marks."""


class CpuClock:
    """The host's monotonic clock, in whole nanoseconds."""

    def __init__(self) -> None:
        self._marks_ns: list[int] = []

    def mark(self) -> None:
        self._marks_ns.append(time.perf_counter_ns())

    def read(self) -> list[float]:
        marks, self._marks_ns = self._marks_ns, []
        return [(end - start) / 1e9 for start, end in pairwise(marks)]


class CudaClock:
    """CUDA events on the current stream, allocated ahead so that a mark only records one.

    Resolution is about 0.5 us. More marks than `capacity` allocate more events, once.
    """

    def __init__(self, device: torch.device, *, capacity: int = 4096) -> None:
        self._device = device
        self._events = [_event() for _ in range(capacity)]
        self._used = 0

    def mark(self) -> None:
        if self._used == len(self._events):
            self._events.append(_event())
        self._events[self._used].record()
        self._used += 1

    def read(self) -> list[float]:
        torch.cuda.synchronize(self._device)
        used, self._used = self._events[: self._used], 0
        # Successive pairs: a difference of two long float32 times would lose microseconds.
        return [start.elapsed_time(end) / 1e3 for start, end in pairwise(used)]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def clock_for(device: torch.device, *, marks: int = 4096) -> Clock:
    """The clock of a device, ready for so many marks between two readings."""
    return CudaClock(device, capacity=marks) if device.type == "cuda" else CpuClock()
