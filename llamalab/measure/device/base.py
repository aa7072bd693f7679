"""The interface of a measured device, for the CPU, CUDA and further kinds.

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
    """The allocator's events during a block of code, filled when the block ends.

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
    """One device of some kind, made for a torch device; its queries change no state unless stated.

    `role` chooses sizes: a host computes in the process itself; an accelerator has its own memory, executes a queue
    asynchronously, and needs more work to be fully used. `trusts_cache_size` says whether `cache_bytes` is reliable.
    `launch_calls` are prefixes of the profiler's names of calls that launch kernels; empty where kernels run in the
    host's own calls. `profiler_name` is the profiler's name of the device, None where it needs none. `held_method`
    names the source of `held_bytes`.
    """

    place: torch.device
    role: Role
    trusts_cache_size: bool
    launch_calls: tuple[str, ...]
    profiler_name: str | None
    held_method: str

    @classmethod
    def count(cls) -> int:
        """Number of devices of this kind that torch sees."""

    @property
    def name(self) -> str:
        """The model of the device as its driver or system names it."""

    @property
    def versions(self) -> Versions:
        """Versions of runtime, driver and kernel library."""

    def make_current(self) -> None:
        """Make it the current device of its kind."""

    def memory_bytes(self) -> int:
        """All memory of the device that this process may use."""

    def available_bytes(self) -> int:
        """Memory of the device that is free for this process now, including torch's cached blocks."""

    def cache_bytes(self) -> int:
        """Size of the last-level cache as reported, 0 where it is not."""

    def clock(self, *, marks: int = 4096) -> Clock:
        """A clock of the device, ready for so many marks between two readings."""

    def synchronise(self) -> None:
        """Wait until all launched work is done."""

    @property
    def graph_fill_s(self) -> float:
        """How long a graph must work for its start not to count; 0 where there are no graphs."""

    @property
    def graph_refusal(self) -> str | None:
        """Why a device of a kind that has graphs records none; None where it does, and of kinds without them."""

    def graph(self, work: Callable[[], object]) -> Callable[[], object]:
        """The same work with the least launch overhead that the device allows; capture may run it once or more."""

    def telemetry(self) -> Telemetry:
        """Clocks, power, temperature, load at this moment; unknown values are None with the reason."""

    def throttle_counters(self) -> dict[str, int]:
        """Counters that rise while the clocks are throttled, by cause; empty where the device has none."""

    def energy_counter(self) -> tuple[Counter, str]:
        """A counter of joules, and its source."""

    def process_bytes(self) -> ProcessBytes:
        """Bytes that each process holds on the device."""

    def release_memory(self) -> None:
        """Give cached unused blocks back to the device; the host's own memory is not affected."""

    def keep_freed_memory(self, touch_bytes: int = 0) -> bool:
        """Have the allocator keep freed memory, so that times repeat; False where it cannot.

        `touch_bytes` are allocated at once where the allocator does not keep them by itself.
        """

    def start_held(self) -> None:
        """Begin a new window for `held_bytes`, where the device records a peak."""

    def held_bytes(self) -> int | None:
        """Bytes held by this process, or their peak since `start_held`; None where unknown."""

    def peak_memory(self, work: Callable[[], object], *, resident_bytes: int | None = None) -> MeasuredMemory:
        """The peak of one call above the memory held before. The call may run twice."""

    def counts_peak_in_trace(self) -> bool:
        """Whether the peak of a pass is best taken from `trace_allocations`, not from `peak_memory`."""

    def trace_allocations(self) -> AbstractContextManager[AllocatorTrace]:
        """Records the allocator's events of the block, including work launched in it."""
