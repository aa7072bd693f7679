"""The device's own members: clocks, graphs and what a failed one leaves, memory, telemetry, several devices."""

import gc

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import Backend, get_backend
from llamalab.measure.attention.calls import measure_attention, ring_size
from llamalab.measure.device import watch
from llamalab.measure.device.cuda import Cuda
from llamalab.measure.device.cuda_clock import CudaClock, mark_cost_s
from llamalab.measure.device.machine import available_bytes, clock_for, device_of, resolve_device
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.model.cuda_graph import captured
from tests.cuda_fake.conftest import FEW
from tests.cuda_fake.gpu import Gpu

pytestmark = pytest.mark.fake_cuda
PLACE = torch.device("cuda", 0)


def small() -> torch.Tensor:
    return torch.empty(1 << 20, dtype=torch.float32, device=PLACE)


def test_a_mark_costs_the_device_what_is_taken_off(gpu: Gpu) -> None:
    assert mark_cost_s(PLACE) == pytest.approx(gpu.costs.event_s, rel=0.02)


def test_samples_are_of_the_device_however_slow_the_host(gpu: Gpu) -> None:
    x = small()
    samples = time_one(lambda: [x.add_(1) for _ in range(50)], clock_for(PLACE), Plan(0.0, 5, 5, 2, 0.0))
    kernel_s = gpu.costs.move_s(2 * x.nbytes) + gpu.costs.gap_s
    assert samples == pytest.approx([50 * kernel_s] * 5, rel=0.03)
    assert 50 * gpu.costs.call_s > 1.2 * 50 * kernel_s  # without a head start the host would be what is timed


def test_a_clock_has_its_events_before_they_are_needed(gpu: Gpu) -> None:
    clock = CudaClock(PLACE, capacity=8)
    assert all(event._at_s is not None for event in clock._events)  # an event is made by its first record
    for _ in range(8):
        clock.mark()
    assert len(clock._events) == 8


WRONG = {
    "waits": lambda x: torch.cuda.synchronize(),
    "reads a value": lambda x: x.sum().item(),
    "copies to the host": lambda x: x.cpu(),
    "copies from the host": lambda x: x.add_(torch.ones(1 << 20).to(PLACE)),
    "records a time": lambda x: torch.cuda.Event(enable_timing=True).record(),
    "allocates elsewhere": lambda x: elsewhere(x),
}


def elsewhere(x: torch.Tensor) -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        x.clone()


@pytest.mark.parametrize("what", WRONG)
def test_a_capture_that_fails_leaves_stream_pool_and_generator_and_tells_the_first_error(gpu: Gpu, what: str) -> None:
    x, before, told = small(), torch.cuda.current_stream(), []
    generator = torch.cuda.default_generators[0]
    generator.graphsafe_set_state = told.append
    runs = iter([False, True])  # the warm-up may do it, the capture may not

    def work() -> None:
        x.add_(1)
        if next(runs):
            WRONG[what](x)

    with pytest.raises(RuntimeError, match="not permitted when stream is capturing") as failure:
        captured(work, PLACE)
    assert "previous error" not in str(failure.value)
    assert torch.cuda.current_stream() is before
    assert told == ["kept"]
    x.clone()  # from the ordinary pool again
    captured(lambda: x.add_(1), PLACE).replay()


def test_an_error_of_the_work_itself_is_the_one_that_is_raised(gpu: Gpu) -> None:
    def work() -> None:
        if gpu.capture is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        captured(work, PLACE)
    with pytest.raises(ZeroDivisionError):
        captured(lambda: 1 / 0, PLACE)  # in the warm-up: nothing was captured
    assert gpu.open_pool is None
    assert gpu.stream is gpu.default_stream


def test_graphs_are_captured_timed_and_dropped_one_at_a_time(gpu: Gpu) -> None:
    shape, machine = AttentionShape(1, 256, 256, 8, 8, 64, "bf16", "bf16"), Machine(PLACE, clock_for(PLACE), "bf16")
    held = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, query_offset: int) -> torch.Tensor:
        held.append(gpu.allocator.graphs)
        return q.clone()

    def full(*_: torch.Tensor, query_offset: int) -> torch.Tensor:
        return torch.empty(1 << 40, dtype=torch.uint8, device=PLACE)

    backends = [Backend("one", "flash", attend), Backend("full", "flash", full), Backend("two", "flash", attend)]
    points = measure_attention(machine, shape, backends, FEW)
    assert [bool(point.samples_s) for point in points] == [True, False, True]
    assert "out of memory" in points[1].reason
    assert set(held) == {0}
    assert torch.cuda.current_stream() is gpu.default_stream


def test_a_graph_holds_so_many_calls_that_its_start_does_not_count(gpu: Gpu) -> None:
    shape, machine = AttentionShape(1, 96, 96, 32, 32, 128, "bf16", "bf16"), Machine(PLACE, clock_for(PLACE), "bf16")
    (point,) = measure_attention(machine, shape, [get_backend("flash")], FEW)
    truth_s = gpu.costs.attention_s((1, 32, 96, 128), 96, 32, 2) + gpu.costs.graph_gap_s
    assert point.samples_s == pytest.approx([truth_s] * 2, rel=0.03)


def test_the_inputs_of_a_decode_step_are_more_than_the_cache_holds(gpu: Gpu) -> None:
    machine, shape = Machine(PLACE, clock_for(PLACE), "bf16"), AttentionShape(1, 1, 192, 64, 8, 128, "bf16", "bf16")
    assert ring_size(machine, shape) * 2 * 8 * 192 * 128 * 2 > 3 * gpu.costs.cache_bytes


def test_memory_that_torch_keeps_is_free(gpu: Gpu) -> None:
    free = available_bytes(PLACE)
    x = torch.empty(1 << 30, dtype=torch.uint8, device=PLACE)
    assert available_bytes(PLACE) == free - x.nbytes
    del x
    gc.collect()
    assert torch.cuda.mem_get_info(PLACE)[0] < available_bytes(PLACE) == free


def test_the_device_that_is_named_is_the_one_that_works(gpu: Gpu) -> None:
    gpu.count = 2
    place = resolve_device("cuda:1")
    clock = clock_for(place)
    clock.mark()
    clock.mark()
    assert torch.cuda.current_device() == 1
    assert clock.read() != []
    resolve_device("cuda")
    assert torch.cuda.current_device() == 0


def test_telemetry_is_of_a_working_device(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    x, busy = small(), []
    read = Cuda.telemetry
    monkeypatch.setattr(Cuda, "telemetry", lambda self: busy.append(gpu.device_s > gpu.host_s) or read(self))
    monkeypatch.setattr(watch, "WORKING_S", 0.005)
    before_s = gpu.host_s
    state = watch.state_at_work(lambda: [x.add_(1) for _ in range(100)], PLACE)
    assert gpu.host_s - before_s >= 0.005
    assert (state.clock_hz, state.throttle_reasons) == (1_980_000_000, ["software power cap"])
    assert busy


def test_the_versions_that_choose_kernels_are_recorded(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91600)
    assert (device_of(PLACE).versions.driver, device_of(PLACE).versions.kernels) == ("570.1", "91600")
