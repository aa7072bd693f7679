"""Measuring on one thread, by the time of that thread alone: what others do on the machine does not count."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import thread_time_ns

import torch


class ThreadClock:
    """A clock of llamalab.measure that goes only while this thread runs."""

    def __init__(self) -> None:
        self._marks_ns: list[int] = []

    def mark(self) -> None:
        """Note this moment."""
        self._marks_ns.append(thread_time_ns())

    def hold(self, seconds: float) -> None:
        """Nothing is ever behind this thread."""

    def read(self) -> list[float]:
        """Seconds between successive marks, which are forgotten."""
        marks, self._marks_ns = self._marks_ns, []
        return [(end - start) / 1e9 for start, end in pairwise(marks)]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread in here, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
