"""The clock of a CUDA device: events on its current stream, and a kernel that spins while the host runs ahead."""

from functools import cache
from itertools import pairwise

import torch

from llamalab.measure.timing.deadline import now_s
from llamalab.measure.timing.timer import AHEAD

_CYCLES_PER_S = 2.1e9  # no current GPU has a higher clock: a spin of so many cycles lasts at least as long as asked
_MOST_HOLD_S = 0.25
_LEAST_S = 1e-9  # an empty interval between two marks
_WORKS = 64  # of one element, with and without marks between them
_TRIES = 3


class CudaClock:
    """CUDA events on the current stream, created ahead so that a mark only records one.

    Resolution is about 0.5 us. The device time of a mark (`mark_cost_s`) is subtracted from every interval. More marks
    than `capacity` create more events, once.
    """

    def __init__(self, place: torch.device, *, capacity: int = 4096, mark_s: float | None = None) -> None:
        self._place, self._mark_s = place, mark_s
        self._events = [_event() for _ in range(capacity)]
        self._used = 0

    def mark(self) -> None:
        if self._used == len(self._events):
            self._events.append(_event())
        self._events[self._used].record()
        self._used += 1

    def hold(self, seconds: float) -> None:
        torch.cuda._sleep(int(min(seconds, _MOST_HOLD_S) * _CYCLES_PER_S))  # type: ignore[no-untyped-call]

    def read(self) -> list[float]:
        torch.cuda.synchronize(self._place)
        used, self._used = self._events[: self._used], 0
        if self._mark_s is None:
            self._mark_s = mark_cost_s(self._place)
        # Successive pairs: a difference of two long float32 times would lose microseconds.
        return [max(_LEAST_S, start.elapsed_time(end) / 1e3 - self._mark_s) for start, end in pairwise(used)]


@cache
def mark_cost_s(place: torch.device) -> float:
    """Device seconds that a mark between two kernels adds, with the host ahead; never below 0."""
    clock, x = CudaClock(place, capacity=2 * _WORKS, mark_s=0.0), torch.zeros(1, device=place)
    launch_s, costs = 0.0, []
    for _ in range(1 + _TRIES):
        spans = []
        for marks in (False, True):
            clock.hold(AHEAD * launch_s)
            began_s = now_s()
            clock.mark()
            for _ in range(_WORKS):
                x.add_(1)
                if marks:
                    clock.mark()
            if not marks:
                clock.mark()
            launch_s = max(launch_s, now_s() - began_s)
            spans.append(sum(clock.read()))
        costs.append((spans[1] - spans[0]) / (_WORKS - 1))
    return max(0.0, min(costs[1:]))  # the first measured the time of the host, during which the device is held


def _event() -> torch.cuda.Event:
    """An event that is created already: CUDA creates it at its first record, which takes longer."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
