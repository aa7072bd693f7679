"""What GPUs told, kept as files, read by the code that reads a profiler; and a made-up file of the same shape."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.device_traces import event_row
from tests.measure.profile.test_kernel_times import Event
from tests.measure.traces import PRODUCTS, check_traces, read_traces, recorded_traces


class Told(Event):
    """An event with what only the file keeps, of a torch that does not tell the kind of an activity."""

    def linked_correlation_id(self) -> int:
        return 0

    def is_user_annotation(self) -> bool:
        return self.annotation


def events(kernel_ns: int = 40) -> list[dict[str, Any]]:
    """A pass of products alone: a range, its launch, its kernel, and the range again on the device."""
    found = []
    for number, name in enumerate(PRODUCTS):
        at, row = 100 * number, name if name == "output" else f"layers.0.part.{name}"
        found += [
            Told(row, at, 80, annotation=True), Told("cudaLaunchKernel", at + 10, 5, correlation=number + 1),
            Told("gemm", at + 30, kernel_ns, "CUDA", number + 1), Told(row, at + 30, kernel_ns, "CUDA", number + 1),
        ]  # fmt: skip
    return [event_row(one) for one in found]


def made_up(**changes: Any) -> dict[str, Any]:
    part = {"readings": [{"power_w": 70.0}, {"power_w": None}], "throttled": []}
    data = {
        "experiment": "device_traces",
        "events": {"sdpa": {"prefill": events(), "decode": events()}, "cudnn": {"reason": "none here"}},
        "allocator": [{"at_ns": 1, "address": 8, "bytes": 512}, {"at_ns": 2, "address": 8, "bytes": -512}],
        "sensors": {"before": part, "work": {"readings": [{"power_w": 300.0}], "throttled": []}, "after": part},
    }
    return data | changes


def written(tmp_path: Path, data: dict[str, Any]) -> Path:
    path = tmp_path / "device_traces.json"
    path.write_text(json.dumps(data))
    return path


def test_a_made_up_file_is_read_and_holds(tmp_path: Path) -> None:
    traces = read_traces(written(tmp_path, made_up()))
    assert set(traces.passes) == {("sdpa", "prefill"), ("sdpa", "decode")}
    assert traces.reasons == {"cudnn": "none here"}
    assert {event.row["activity_type"] for event in traces.passes["sdpa", "decode"]} == {None}
    check_traces(traces)


WRONG = {
    "a product without a kernel": {"events": {"sdpa": {"decode": events()[4:]}}},
    "kernels of no operation": {"events": {"sdpa": {"decode": [
        *events(), *(dict(events()[2], correlation_id=99),) * 9]}}},
    "a plan for every length": {"events": {"sdpa": {"decode": [
        dict(row, name="cudnn_attention") if row["name"] == "gemm" else row for row in events()]}}},
    "no allocation": {"allocator": []},
    "an idle device that draws more": {"sensors": {
        "before": {"readings": [{"power_w": 300.0}]}, "work": {"readings": [{"power_w": 70.0}]}}},
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_cannot_be_true_fails(tmp_path: Path, what: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check_traces(read_traces(written(tmp_path, made_up(**WRONG[what]))))


@pytest.mark.parametrize("path", recorded_traces(), ids=lambda path: path.parent.name)
def test_what_a_device_told_holds(path: Path) -> None:
    check_traces(read_traces(path))
