"""What a measurement needs of a device: one interface for the CPU, CUDA, and the kind that comes next.

A new kind is a class with these members in a file of its own here, and its row in llamalab.measure.device.kinds.
Nothing else in llamalab.measure asks which kind it runs on.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch

from llamalab.measure.timing.clock import Clock
from llamalab.records.phase_profile import Telemetry
from llamalab.records.record import MeasuredMemory

Role = Literal["host", "accelerator"]
Counter = Callable[[], tuple[float | None, str | None]]  # joules so far, or None and the reason
ProcessBytes = tuple[dict[int, int | None] | None, str | None]  # bytes by process id, or None and the reason


class AllocatorEvent(NamedTuple):
    """Bytes taken (+) or given back (-) at an address, at a moment in ns."""

    at_ns: int
    address: int
    bytes: int


@dataclass
class AllocatorTrace:
    """The allocator's events of a block of code, filled when the block ends.

    `profiler_events` are the profiler's events of the same block where both have the profiler's clock; None where
    the allocator's events have the system's clock (`time.time_ns`).
    """

    method: str
    events: list[AllocatorEvent] = field(default_factory=list)
    profiler_events: Sequence[Any] | None = None


class Versions(NamedTuple):
    """Versions of the device's runtime (CUDA's), its driver and its kernels (cuDNN's); None where it is unknown."""

    runtime: str | None = None
    driver: str | None = None
    kernels: str | None = None


class Device(Protocol):
    """One device of some kind, made for a torch device; asking changes nothing unless it says so.

    `role` chooses sizes: a host computes in the process itself; an accelerator has memory of its own, works behind the
    host in a queue, and needs more work to be full. `trusts_cache_size` says whether `cache_bytes` needs no measuring.
    `launch_calls` are the beginnings of the names that the profiler gives to calls that launch kernels; empty where
    kernels run in the host's own calls. `profiler_name` is the profiler's name of the device, None where it needs none.
    `held_method` is how `held_bytes` is found.
    """

    place: torch.device
    role: Role
    trusts_cache_size: bool
    launch_calls: tuple[str, ...]
    profiler_name: str | None
    held_method: str

    @classmethod
    def count(cls) -> int:
        """How many devices of this kind torch sees."""

    @property
    def name(self) -> str:
        """The model of the device as its driver or system names it."""

    @property
    def versions(self) -> Versions:
        """Versions of what lies below torch."""

    def make_current(self) -> None:
        """Make it the one of its kind that work goes to where none is named."""

    def memory_bytes(self) -> int:
        """All memory of the device that this process may use."""

    def available_bytes(self) -> int:
        """Memory of the device that is free for this process now, what torch keeps for later included."""

    def cache_bytes(self) -> int:
        """Size of the last-level cache as it is reported, 0 where it is not."""

    def clock(self, *, marks: int = 4096) -> Clock:
        """A clock of the device, ready for so many marks between two readings."""

    def synchronise(self) -> None:
        """Wait until everything that was launched is done."""

    @property
    def graph_fill_s(self) -> float:
        """How long a graph must work for its start not to count; 0 where there are no graphs."""

    @property
    def graph_refusal(self) -> str | None:
        """Why a device of a kind that has graphs records none; None where it does, and of kinds without them."""

    def graph(self, work: Callable[[], object]) -> Callable[[], object]:
        """The same work with as little cost of launching as the device allows; it may run once or more meanwhile."""

    def telemetry(self) -> Telemetry:
        """Clocks, power, temperature, load at this moment; what is not known is None with the reason."""

    def throttle_counters(self) -> dict[str, int]:
        """Counters that rise while a reason holds the clocks down, by reason; empty where the device has none."""

    def energy_counter(self) -> tuple[Counter, str]:
        """A counter of joules, and its source."""

    def process_bytes(self) -> ProcessBytes:
        """Bytes that each process holds on the device."""

    def release_memory(self) -> None:
        """Give cached blocks that are not in use back to the device; the host's own are not its concern."""

    def keep_freed_memory(self, touch_bytes: int = 0) -> bool:
        """Have freed memory stay with the process, so that times repeat; False where that cannot be had.

        `touch_bytes` are fetched at once where the allocator does not do so itself.
        """

    def start_held(self) -> None:
        """Begin a new window for `held_bytes`, where the device keeps a peak."""

    def held_bytes(self) -> int | None:
        """Bytes that this process holds, or held at most since `start_held`; None where it is unknown."""

    def peak_memory(self, work: Callable[[], object], *, resident_bytes: int | None = None) -> MeasuredMemory:
        """The peak of one call above what was held before it. The call may run twice."""

    def counts_peak_in_trace(self) -> bool:
        """Whether the peak of a pass is best taken from `trace_allocations`, not from `peak_memory`."""

    def trace_allocations(self) -> AbstractContextManager[AllocatorTrace]:
        """The allocator's events of the block, and of all that was launched in it."""
