"""The CPU that this process runs on, as Linux describes it. Sizes are those of the process's control groups."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from llamalab.measure.device.base import AllocatorEvent, AllocatorTrace, Counter, ProcessBytes, Role, Versions
from llamalab.measure.device.control_groups import rooms
from llamalab.measure.device.kernel_files import field_of, kibibytes_of, number_of, text_of
from llamalab.measure.device.peak_memory import allocated_peak, status_bytes
from llamalab.measure.device.profiler import profiling
from llamalab.measure.timing.clock import Clock, HostClock
from llamalab.model import host_memory
from llamalab.records.phase_profile import Telemetry
from llamalab.records.record import MeasuredMemory
from llamalab.units import MEMORY_UNITS

ROOT = Path("/")
_SYSFS_UNITS = {"K": MEMORY_UNITS["KiB"], "M": MEMORY_UNITS["MiB"], "G": MEMORY_UNITS["GiB"]}
_RAPL = "sys/class/powercap/intel-rapl:0/energy_uj"
_NOT_READABLE = "not readable on a CPU without privileges"


class Cpu:
    """The host; `root` is the root of the file system that describes it."""

    role: Role = "host"
    trusts_cache_size = False  # a virtual machine may report the cache of its host
    launch_calls: tuple[str, ...] = ()
    profiler_name: str | None = None
    held_method = "VmRSS of the process"
    graph_fill_s, graph_refusal = 0.0, None

    def __init__(self, place: torch.device, *, root: Path = ROOT) -> None:
        self.place, self._root = place, root

    @classmethod
    def count(cls) -> int:
        return 1

    @property
    def name(self) -> str:
        return field_of(self._root / "proc/cpuinfo", "model name") or platform.processor() or platform.machine()

    @property
    def versions(self) -> Versions:
        return Versions()

    def make_current(self) -> None:
        """Does nothing: there is one host."""

    def memory_bytes(self) -> int:
        total = self._meminfo_bytes("MemTotal")
        if total is None:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min([total, *(room.limit_bytes for room in rooms(self._root))])

    def available_bytes(self) -> int:
        free = self._meminfo_bytes("MemAvailable")
        if free is None:
            free = self.memory_bytes()
        return min([free, *(room.free_bytes for room in rooms(self._root))])

    def cache_bytes(self) -> int:
        sizes = [text_of(path) for path in (self._root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
        counts = [(number_of(size[:-1]), _SYSFS_UNITS.get(size[-1:])) for size in sizes]
        return max((count * unit for count, unit in counts if count is not None and unit is not None), default=0)

    def clock(self, *, marks: int = 4096) -> Clock:
        return HostClock()

    def synchronise(self) -> None:
        """Does nothing: a call has ended when it returns."""

    def graph(self, work: Callable[[], object]) -> Callable[[], object]:
        return work

    def telemetry(self) -> Telemetry:
        """Mean clock of the cores and the load of the host."""
        missing = dict.fromkeys(("memory_clock_hz", "power_w", "temperature_c", "throttle_reasons"), _NOT_READABLE)
        clocks_mhz = _clocks_mhz(text_of(self._root / "proc/cpuinfo"))
        if not clocks_mhz:
            missing["clock_hz"] = "the system does not tell the clock"
        try:
            load = os.getloadavg()[0]
        except OSError:
            load, missing["load_average"] = None, "the system does not tell the load"
        clock_hz = int(sum(clocks_mhz) / len(clocks_mhz) * 1e6) if clocks_mhz else None
        return Telemetry(clock_hz=clock_hz, load_average=load, missing=missing)

    def throttle_counters(self) -> dict[str, int]:
        return {}

    def energy_counter(self) -> tuple[Counter, str]:
        return self._read_rapl, "RAPL"

    def process_bytes(self) -> ProcessBytes:
        return None, "not an NVIDIA device"

    def release_memory(self) -> None:
        """Does nothing: no blocks are cached apart from the host's own memory."""

    def keep_freed_memory(self, touch_bytes: int = 0) -> bool:
        return host_memory.keep_freed_memory(touch_bytes)

    def start_held(self) -> None:
        """Does nothing: the resident set has no window."""

    def held_bytes(self) -> int | None:
        return status_bytes("VmRSS", proc=self._root / "proc/self")

    def peak_memory(self, work: Callable[[], object], *, resident_bytes: int | None = None) -> MeasuredMemory:
        return allocated_peak(work, resident_bytes=resident_bytes)

    def counts_peak_in_trace(self) -> bool:
        return True

    @contextmanager
    def trace_allocations(self) -> Iterator[AllocatorTrace]:
        trace = AllocatorTrace("profiler: allocator events")
        with profiling(memory=True) as profiler:
            yield trace
        results = profiler.kineto_results
        trace.events, trace.profiler_events = profiler_events(results.experimental_event_tree()), results.events()

    def _meminfo_bytes(self, name: str) -> int | None:
        return kibibytes_of(field_of(self._root / "proc/meminfo", name))

    def _read_rapl(self) -> tuple[float | None, str | None]:
        """The energy counter of the first CPU package, in joules."""
        try:
            return int((self._root / _RAPL).read_text()) / 1e6, None
        except FileNotFoundError:
            return None, "this system has no energy counter of the CPU (RAPL)"
        except (OSError, ValueError):
            return None, "the CPU's energy counter (RAPL) is not readable without privileges"


def profiler_events(tree: Iterable[Any]) -> list[AllocatorEvent]:
    """The allocations in a profiler's event tree, in order."""
    found, waiting = [], list(tree)
    while waiting:
        node = waiting.pop()
        waiting.extend(node.children)
        if node.tag == torch._C._profiler._EventType.Allocation:
            fields = node.typed[1]
            found.append(AllocatorEvent(node.start_time_ns, int(fields.ptr), int(fields.alloc_size)))
    return sorted(found)


def _clocks_mhz(cpuinfo: str) -> list[float]:
    return [float(line.partition(":")[2]) for line in cpuinfo.splitlines() if line.startswith("cpu MHz")]
