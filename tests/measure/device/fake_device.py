"""A third kind of device: an accelerator that computes on the host, and notes what is asked of it."""

from collections import Counter as Counted
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch

from llamalab.measure.device.base import AllocatorEvent, AllocatorTrace, Counter, ProcessBytes, Role, Versions
from llamalab.measure.timing.clock import Clock, HostClock
from llamalab.records.phase_profile import Telemetry
from llamalab.records.record import MeasuredMemory

GIB = 2**30


class FakeAccelerator:
    """What llamalab needs of a kind that it does not know, in one class."""

    role: Role = "accelerator"
    trusts_cache_size = True
    launch_calls: tuple[str, ...] = ()
    profiler_name: str | None = None
    held_method = "fake: bytes held"
    graph_fill_s, graph_refusal = 1e-6, None
    asked: ClassVar[Counted[str]] = Counted()

    def __init__(self, place: torch.device) -> None:
        self.place = place

    @classmethod
    def count(cls) -> int:
        return 2

    @property
    def name(self) -> str:
        return "Fake 3000"

    @property
    def versions(self) -> Versions:
        return Versions("9.9", "1.2.3")

    def make_current(self) -> None:
        self.asked["make_current"] += 1

    def memory_bytes(self) -> int:
        return 8 * GIB

    def available_bytes(self) -> int:
        return 4 * GIB

    def cache_bytes(self) -> int:
        return 2**21

    def clock(self, *, marks: int = 4096) -> Clock:
        self.asked["clock"] += 1
        return HostClock()

    def synchronise(self) -> None:
        self.asked["synchronise"] += 1

    def graph(self, work: Callable[[], object]) -> Callable[[], object]:
        self.asked["graph"] += 1
        return work

    def telemetry(self) -> Telemetry:
        return Telemetry(clock_hz=7, power_w=300.0, throttle_reasons=["fake heat"])

    def throttle_counters(self) -> dict[str, int]:
        return {}

    def energy_counter(self) -> tuple[Counter, str]:
        return lambda: (None, "fake: no counter"), "fake"

    def process_bytes(self) -> ProcessBytes:
        return {41: 1234}, None

    def release_memory(self) -> None:
        self.asked["release_memory"] += 1

    def keep_freed_memory(self, touch_bytes: int = 0) -> bool:
        self.asked["keep_freed_memory"] += 1
        return True

    def start_held(self) -> None:
        self.asked["start_held"] += 1

    def held_bytes(self) -> int | None:
        return 4321

    def peak_memory(self, work: Callable[[], object], *, resident_bytes: int | None = None) -> MeasuredMemory:
        work()
        return MeasuredMemory(peak_bytes=777, method="fake: own peak", resident_bytes=resident_bytes)

    def counts_peak_in_trace(self) -> bool:
        return False

    @contextmanager
    def trace_allocations(self) -> Iterator[AllocatorTrace]:
        import time

        trace = AllocatorTrace("fake: allocator history")
        yield trace
        trace.events = [AllocatorEvent(time.time_ns(), 1, 555)]
