"""A CUDA device: sizes and memory from torch, the state of the device from NVML."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from llamalab.measure.device.base import AllocatorEvent, AllocatorTrace, Counter, ProcessBytes, Role, Versions
from llamalab.measure.device.cuda_clock import CudaClock
from llamalab.measure.device.nvml import NvmlDevice, open_device
from llamalab.measure.timing.clock import Clock
from llamalab.model.cuda_graph import capture_refusal, captured
from llamalab.records.phase_profile import Telemetry
from llamalab.records.record import MeasuredMemory

_NO_NVML = "NVML: not available"
_HISTORY_ENTRIES = 1 << 17
_GRAPH_FILL_S = 2e-4  # the start of a graph takes a few microseconds


class Cuda:
    """One CUDA device by torch's index."""

    role: Role = "accelerator"
    trusts_cache_size = True  # the driver reports the device's own cache
    launch_calls: tuple[str, ...] = ("cuda", "cu")
    profiler_name: str | None = "cuda"
    held_method = "cuda: max_memory_allocated"

    def __init__(self, place: torch.device) -> None:
        self.place = place

    @classmethod
    def count(cls) -> int:
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.place)

    @property
    def versions(self) -> Versions:
        nvml, _ = self._nvml()
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return Versions(torch.version.cuda, nvml.driver() if nvml else None, None if cudnn is None else str(cudnn))

    def make_current(self) -> None:
        torch.cuda.set_device(self.place)

    def memory_bytes(self) -> int:
        return int(torch.cuda.get_device_properties(self.place).total_memory)

    def available_bytes(self) -> int:
        cached = torch.cuda.memory_reserved(self.place) - torch.cuda.memory_allocated(self.place)
        return int(torch.cuda.mem_get_info(self.place)[0]) + cached

    def cache_bytes(self) -> int:
        return int(torch.cuda.get_device_properties(self.place).L2_cache_size)

    def clock(self, *, marks: int = 4096) -> Clock:
        return CudaClock(self.place, capacity=marks)

    def synchronise(self) -> None:
        torch.cuda.synchronize(self.place)

    @property
    def graph_fill_s(self) -> float:
        return _GRAPH_FILL_S if self.graph_refusal is None else 0.0

    @property
    def graph_refusal(self) -> str | None:
        return capture_refusal(self.place)

    def graph(self, work: Callable[[], object]) -> Callable[[], object]:
        """A CUDA graph to replay; it holds its memory until it is freed."""
        return captured(work, self.place).replay

    def telemetry(self) -> Telemetry:
        nvml, reason = self._nvml()
        if nvml is None:
            unread = ("clock_hz", "memory_clock_hz", "power_w", "temperature_c", "throttle_reasons")
            return Telemetry(missing=dict.fromkeys(unread, reason or _NO_NVML))
        return nvml.telemetry()

    def throttle_counters(self) -> dict[str, int]:
        nvml, _ = self._nvml()
        return nvml.throttle_counters() if nvml else {}

    def energy_counter(self) -> tuple[Counter, str]:
        nvml, reason = self._nvml()
        return (nvml.energy_j if nvml else lambda: (None, reason or _NO_NVML)), "NVML"

    def process_bytes(self) -> ProcessBytes:
        nvml, reason = self._nvml()
        return nvml.process_bytes() if nvml else (None, reason)

    def release_memory(self) -> None:
        torch.cuda.empty_cache()

    def keep_freed_memory(self, touch_bytes: int = 0) -> bool:
        """True: the caching allocator always keeps it."""
        return True

    def start_held(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.place)

    def held_bytes(self) -> int | None:
        return int(torch.cuda.max_memory_allocated(self.place))

    def peak_memory(self, work: Callable[[], object], *, resident_bytes: int | None = None) -> MeasuredMemory:
        self.synchronise()
        torch.cuda.reset_peak_memory_stats(self.place)
        held, reserved = torch.cuda.memory_allocated(self.place), torch.cuda.memory_reserved(self.place)
        work()
        self.synchronise()
        return MeasuredMemory(
            peak_bytes=torch.cuda.max_memory_allocated(self.place) - held,
            method="cuda: max_memory_allocated",
            resident_bytes=held if resident_bytes is None else resident_bytes,
            process_peak_bytes=torch.cuda.max_memory_reserved(self.place) - reserved,
        )

    def counts_peak_in_trace(self) -> bool:
        return False  # the allocator records its own peak

    @contextmanager
    def trace_allocations(self) -> Iterator[AllocatorTrace]:
        trace = AllocatorTrace("cuda: allocator history")
        self.synchronise()
        torch.cuda.memory._record_memory_history(context=None, max_entries=_HISTORY_ENTRIES)
        try:
            yield trace
            self.synchronise()
            histories = torch.cuda.memory._snapshot(self.place)["device_traces"]
            trace.events = history_events(histories[self.place.index or 0])
        finally:
            torch.cuda.memory._record_memory_history(enabled=None)

    def _nvml(self) -> tuple[NvmlDevice | None, str | None]:
        uuid = getattr(torch.cuda.get_device_properties(self.place), "uuid", None)
        return open_device(str(uuid)) if uuid else (None, "this torch does not tell the device's UUID")


def history_events(history: Iterable[dict[str, Any]]) -> list[AllocatorEvent]:
    """The allocations of one device in the history of CUDA's caching allocator."""
    signs = {"alloc": 1, "free_completed": -1}
    return [
        AllocatorEvent(int(entry["time_us"]) * 1000, int(entry["addr"]), signs[entry["action"]] * int(entry["size"]))
        for entry in history
        if entry["action"] in signs
    ]
