"""Kernels and device time of each operation, from events that are written out here."""

from typing import Any, NamedTuple

from llamalab.measure.profile.kernel_times import busy_times, ranges_in
from llamalab.measure.timing.profiler_ranges import Span


class Event(NamedTuple):
    """A profiler's event, as far as it is read."""

    what: str
    start: int
    duration: int
    place: str = "CPU"
    correlation: int = 0
    thread: int = 1
    annotation: bool = False

    def name(self) -> str:
        return self.what

    def start_ns(self) -> int:
        return self.start

    def duration_ns(self) -> int:
        return self.duration

    def device_type(self) -> str:
        return f"DeviceType.{self.place}"

    def correlation_id(self) -> int:
        return self.correlation

    def is_user_annotation(self) -> bool:
        return self.annotation or self.what.startswith("layers.")

    def start_thread_id(self) -> int:
        return self.thread


WQ, W1 = "layers.0.attention.wq", "layers.1.attention.wq"


def test_on_a_cpu_time_is_that_of_the_operations_themselves() -> None:
    events = [
        Event(WQ, 0, 100), Event("aten::linear", 10, 80), Event("aten::t", 12, 3), Event("aten::mm", 20, 60),
        Event("[memory]", 30, 0), Event("aten::other", 40, 500, thread=2),
        Event(W1, 100, 50), Event("aten::mm", 110, 30),
    ]  # fmt: skip
    spans = ranges_in(events, [WQ, W1])
    assert spans == [Span(WQ, 0, 100), Span(W1, 100, 150)]
    found = busy_times(events, spans, launch_calls=())["layers.*.attention.wq"]
    assert (found.calls, found.range_s, found.device_s) == (2, 150e-9, 110e-9)
    assert found.kernels == ["aten::mm", "aten::linear"]  # 17 of 110 ns for linear itself, 3 for t


def test_on_cuda_a_kernel_belongs_to_where_it_was_launched() -> None:
    events: list[Any] = [
        Event(WQ, 0, 100), Event("cudaLaunchKernel", 10, 5, correlation=7), Event("aten::mm", 5, 20),
        Event(WQ, 300, 400, place="CUDA"),  # the range again, on the device's track
        Event("sm90_gemm", 300, 900, place="CUDA", correlation=7),
        Event(W1, 100, 50), Event("cuLaunchKernel", 120, 5, correlation=8),
        Event("sm90_gemm", 1200, 700, place="CUDA", correlation=8),
        Event("Memcpy", 1900, 5, place="CUDA", correlation=9),  # launched outside of all ranges
    ]  # fmt: skip
    spans = ranges_in(events, [WQ, W1])
    assert [span.start_ns for span in spans] == [0, 100]
    found = busy_times(events, spans, launch_calls=("cuda", "cu"))["layers.*.attention.wq"]
    assert (found.calls, found.device_s, found.kernels) == (2, 1600e-9, ["sm90_gemm"])


def test_a_range_on_the_device_is_no_kernel_whatever_its_number() -> None:
    events: list[Any] = [
        Event(WQ, 0, 100, correlation=42), Event("cudaLaunchKernel", 10, 5, correlation=41),
        Event("cudaLaunchKernelExC", 50, 5, correlation=42),
        Event("Torch-Compiled Region: 0/0", 8, 60, annotation=True),
        Event("gemm", 300, 900, place="CUDA", correlation=41), Event("splitK", 1210, 90, place="CUDA", correlation=42),
        Event(WQ, 300, 1000, place="CUDA", correlation=42),
        Event("Torch-Compiled Region: 0/0", 300, 1000, place="CUDA", correlation=41),
    ]  # fmt: skip
    found = busy_times(events, ranges_in(events, [WQ]), launch_calls=("cuda",))["layers.*.attention.wq"]
    assert (found.device_s, found.kernels) == (990e-9, ["gemm"])


def test_kernels_of_a_device_keep_their_length_under_the_profiler() -> None:
    events: list[Any] = [
        Event(WQ, 0, 30_000), Event("cudaLaunchKernel", 10, 5, correlation=7),
        Event("gemm", 40_000, 5_000, place="CUDA", correlation=7),
    ]  # fmt: skip
    spans = ranges_in(events, [WQ])
    behind = busy_times(events, spans, launch_calls=("cuda",))["layers.*.attention.wq"]
    assert (behind.device_s_in(10e-6), behind.device_s_in(4e-6)) == (5e-6, 4e-6)
