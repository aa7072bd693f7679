"""What a device told, event by event, as experiments.device_traces left it: read, and held to what must be true of it.

Wherever a campaign has run on a GPU its file lies in experiments/records/<device>/device_traces.json.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.folders import RECORDS
from llamalab.measure.device.base import AllocatorEvent
from llamalab.measure.device.cuda import Cuda
from llamalab.measure.device.peak_memory import running_peak
from llamalab.measure.profile.kernel_times import busy_times, ranges_in
from llamalab.measure.timing.profiler_ranges import starred

FILE = "device_traces.json"
PRODUCTS = ("wq", "wk", "wv", "wo", "w1", "w3", "w2", "output")


class KeptEvent(NamedTuple):
    """A profiler's event as a file has it, with the methods by which it is read."""

    row: dict[str, Any]

    def name(self) -> str:
        return str(self.row["name"])

    def device_type(self) -> str:
        return str(self.row["device_type"])

    def start_ns(self) -> int:
        return int(self.row["start_ns"])

    def duration_ns(self) -> int:
        return int(self.row["duration_ns"])

    def correlation_id(self) -> int:
        return int(self.row["correlation_id"])

    def start_thread_id(self) -> int:
        return int(self.row["thread"])

    def is_user_annotation(self) -> bool:
        return bool(self.row["annotation"])

    @property
    def on_device(self) -> bool:
        return not self.device_type().endswith("CPU")


class Traces(NamedTuple):
    """The events of each pass by backend and phase, the allocator's, and readings of each part."""

    passes: dict[tuple[str, str], list[KeptEvent]]
    reasons: dict[str, str]
    allocator: list[AllocatorEvent]
    power_w: dict[str, list[float | None]]


def recorded_traces() -> list[Path]:
    """The files of all devices that left one."""
    return sorted(RECORDS.glob(f"*/{FILE}"))


def read_traces(path: Path) -> Traces:
    """A file of experiments.device_traces."""
    data = json.loads(path.read_text(encoding="utf-8"))
    passes = {
        (backend, phase): [KeptEvent(row) for row in rows]
        for backend, told in data["events"].items()
        for phase, rows in told.items()
        if phase != "reason"
    }
    return Traces(
        passes=passes,
        reasons={backend: told["reason"] for backend, told in data["events"].items() if "reason" in told},
        allocator=[AllocatorEvent(**row) for row in data["allocator"]],
        power_w={part: [one["power_w"] for one in told["readings"]] for part, told in data["sensors"].items()},
    )


def check_traces(traces: Traces) -> None:
    """What must hold on any GPU: kernels belong to operations, ranges are none, memory is taken, work takes power."""
    for (backend, phase), events in traces.passes.items():
        check_pass(events, f"{backend}, {phase}")
    if ("sdpa", "decode") in traces.passes:
        kernels = {event.name() for event in traces.passes["sdpa", "decode"] if event.on_device}
        assert not any("cudnn" in name and "attention" in name for name in kernels)  # it would plan for every length
    assert running_peak(event.bytes for event in traces.allocator) > 0
    working, idle = (readings_known(traces.power_w[part]) for part in ("work", "before"))
    assert not working or not idle or max(working) >= max(idle)


def check_pass(events: list[KeptEvent], told: str) -> None:
    """Every product has a kernel, no range is one, and the operations' device time is that of the kernels."""
    names = {event.name() for event in events if event.is_user_annotation() and not event.on_device}
    busy = busy_times(events, ranges_in(events, names), launch_calls=Cuda.launch_calls)
    seen = {name.rpartition(".")[2]: one for name, one in busy.items()}
    for product in PRODUCTS:
        assert seen[product].device_s > 0, f"{told}: {product} has no kernel"
    named = {kernel for one in busy.values() for kernel in one.kernels}
    assert not named & {*names, *map(starred, names)}, told
    kernels_s = sum(event.duration_ns() for event in events if event.on_device and event.name() not in names) / 1e9
    in_operations_s = sum(one.device_s for one in busy.values())
    assert 0.9 * kernels_s <= in_operations_s <= 1.001 * kernels_s, f"{told}: {in_operations_s} of {kernels_s} s"


def readings_known(values: list[float | None]) -> list[float]:
    """Those that the sensor told."""
    return [value for value in values if value is not None]
