"""Rows of attention: what ran, what was left out and why; no wall clock."""

from itertools import cycle

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import Backend, get_backend
from llamalab.measure.attention import calls as attention
from llamalab.measure.attention.calls import measure_attention, obstacle, ring_size
from llamalab.measure.attention.lab import LabRow, crossover_tokens, run_lab
from llamalab.measure.attention.unit_costs import (
    UnitCost,
    UnitCosts,
    kernel_peak_bytes,
    kernel_tiles,
    probed_seconds,
    unit_cost,
    work,
)
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Plan
from llamalab.records.record import AttentionPoint
from tests.measure.fakes import StepClock

SHAPE = AttentionShape(2, 37, 37, 6, 3, 16, "fp32", "fp32")
PLAN = Plan(0.0, 3, 3, 1, 0.0)
NAMES = ("naive", "tiled", "sdpa", "math", "flash")


@pytest.fixture
def machine() -> Machine:
    return Machine(torch.device("cpu"), StepClock(), "fp32")


def backends(*names: str) -> list[Backend]:
    return [get_backend(name) for name in names]


def test_a_row_per_backend_with_its_kernel(machine: Machine) -> None:
    points = measure_attention(machine, SHAPE, backends(*NAMES), PLAN)
    assert [point.backend for point in points] == list(NAMES)
    assert all(point.samples_s == [1.0] * 3 for point in points)
    assert all(point.reason is None for point in points)
    kernels = {point.backend: point.kernel for point in points}
    assert kernels["math"] == "aten::_scaled_dot_product_attention_math"
    assert kernels["flash"] == kernels["sdpa"] == "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert (points[0].n_heads, points[0].n_kv_heads, points[0].head_dim, points[0].batch) == (6, 3, 16, 2)


def test_what_a_backend_cannot_do_is_a_reason_and_not_an_error(machine: Machine) -> None:
    points = {point.backend: point for point in measure_attention(machine, SHAPE, backends("cudnn", "sdpa"), PLAN)}
    assert points["sdpa"].samples_s
    assert (points["cudnn"].samples_s, points["cudnn"].peak_bytes) == ([], None)
    assert "attention 'cudnn' needs a PyTorch kernel" in (points["cudnn"].reason or "")


def test_a_row_whose_kernel_is_not_the_one_asked_for_fails(machine: Machine) -> None:
    impostor = get_backend("math")._replace(attend=get_backend("sdpa").attend)
    (point,) = measure_attention(machine, SHAPE, [impostor], PLAN)
    assert point.samples_s == []
    assert point.reason == (
        "failed: 'math' was asked for and the profiler saw aten::_scaled_dot_product_flash_attention_for_cpu"
    )


def test_what_does_not_fit_is_said_before_anything_is_allocated(machine: Machine) -> None:
    huge = SHAPE._replace(new_tokens=10**6, context_tokens=10**6)
    reason = obstacle(machine, huge, get_backend("naive"))
    assert reason is not None
    assert reason.startswith("one call needs 87.")
    points = measure_attention(machine, huge, backends("naive"), PLAN)
    assert (points[0].samples_s, points[0].reason) == ([], reason)


def test_decode_goes_through_more_keys_than_a_cache_holds(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "effective_cache_bytes", lambda device: 10_000)
    decode = SHAPE._replace(new_tokens=1, context_tokens=50)
    assert attention.input_bytes(decode) == 4 * (2 * 6 * 16 + 2 * 2 * 3 * 50 * 16)
    assert ring_size(machine, decode) == 2  # 2 x 39,168 bytes are more than 4 x 10,000
    assert ring_size(machine, SHAPE) == 1
    calls: list[int] = []
    ring = attention._ring(machine, decode)
    turn = cycle(ring)
    for _ in range(2):
        attention._next_calls(noted("sdpa", calls), turn, 1)()
        attention._next_calls(noted("naive", calls), turn, 1)()
    first, second = (inputs.k_BKSE.data_ptr() for inputs in ring)
    assert calls == [first, second, first, second]  # backends that share rounds never read what the other left behind
    assert torch.equal(ring[0].k_BKSE, ring[1].k_BKSE)
    (point,) = measure_attention(machine, decode, backends("sdpa"), PLAN)
    assert point.samples_s == [1.0] * 3


@pytest.mark.parametrize(("call_s", "calls"), [(1.0, 1), (2e-3, 3), (1e-6, 100), (0.0, 100)])
def test_a_sample_has_as_many_calls_as_the_clock_sees_well(call_s: float, calls: int) -> None:
    machine = Machine(torch.device("cpu"), StepClock(call_s), "fp32")
    decode = SHAPE._replace(new_tokens=1, context_tokens=2)
    turn = cycle([attention.random_inputs(machine, decode)])
    assert attention._calls_of_a_sample(machine, get_backend("naive"), turn, 100) == calls
    assert attention._calls_of_a_sample(machine, get_backend("naive"), turn, 1) == 1


def noted(name: str, calls: list[int]) -> Backend:
    """A backend that notes where the keys of each call lie."""
    backend = get_backend(name)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, query_offset: int) -> torch.Tensor:
        calls.append(k.data_ptr())
        return backend.attend(q, k, v, query_offset=query_offset)

    return backend._replace(attend=attend)


def test_work_is_counted_by_algorithm_and_phase() -> None:
    long = AttentionShape(1, 1024, 1024, 2, 1, 64)
    assert work(long, get_backend("naive"), "cpu") == 2 * 1024 * 1024
    # 256 queries by 512 keys: the first half of the queries sees 512 keys, the second all.
    assert work(long, get_backend("sdpa"), "cpu") == 2 * (512 * 512 + 512 * 1024)
    assert work(long, get_backend("sdpa"), "cuda") == 2 * sum(128 * 128 * i for i in range(1, 9))
    assert [kernel_tiles("sdpa", "cpu", t)[0] for t in (191, 192, 767, 768)] == [32, 64, 64, 256]


def test_unit_cost_between_and_beyond_probes() -> None:
    cost = UnitCost((96, 384, 1536), (4.0, 3.0, 2.0))
    assert [cost.at(n) for n in (10, 96, 192, 384, 768, 1536, 10**6)] == [4.0, 4.0, 3.5, 3.0, 2.5, 2.0, 2.0]


def test_a_small_call_takes_the_time_of_a_call_and_its_work() -> None:
    """On a device whose calls take 200 us and whose work 1 ns a byte, every length is what it takes."""
    shape = AttentionShape(1, 1, 0, 2, 2, 16)
    naive, lengths = get_backend("naive"), (12, 192, 1536)

    def true_s(length: int) -> float:
        return 2e-4 + 1e-9 * work(shape._replace(context_tokens=length), naive, "cpu")

    cost = unit_cost({n: (work(shape._replace(context_tokens=n), naive, "cpu"), true_s(n)) for n in lengths})
    forecast = UnitCosts("cpu", {"naive": cost})
    for length in (1, 12, 32, 100, 700, 1536, 10**5):
        assert forecast.seconds(shape._replace(context_tokens=length), naive) == pytest.approx(true_s(length))


@pytest.mark.parametrize("times_s", [(3.0, 1.0, 2.0), (1.0, 4.0, 0.5), (2.0, 2.0, 2.0)])
def test_disturbed_probes_cost_no_less_than_nothing(times_s: tuple[float, ...]) -> None:
    cost = unit_cost({length: (length, seconds) for length, seconds in zip((10, 20, 40), times_s, strict=True)})
    assert cost.call_s >= 0.0
    assert min(cost.seconds) >= 0.0
    assert [cost.call_s + cost.at(n) * n for n in (10, 20, 40)] == pytest.approx(list(times_s))


def test_peak_of_the_kernels_is_exact(machine: Machine) -> None:
    threads = torch.get_num_threads()
    for shape in (SHAPE, SHAPE._replace(new_tokens=300, context_tokens=300)):
        for point in measure_attention(machine, shape, backends("naive", "sdpa"), PLAN):
            expected = kernel_peak_bytes(shape, get_backend(point.backend), "cpu", threads)
            assert expected is not None
            assert point.peak_bytes == pytest.approx(expected, rel=0.05)
    assert kernel_peak_bytes(SHAPE, get_backend("tiled"), "cpu", threads) is None


def test_forecast_of_an_unprobed_backend_is_none() -> None:
    forecast = UnitCosts("cpu", {"naive": UnitCost((8,), (2.0,))})
    assert forecast.seconds(SHAPE, get_backend("naive")) == 2.0 * 2 * 6 * 37 * 37
    assert forecast.seconds(SHAPE, get_backend("sdpa")) is None


def test_probes_keep_the_ratio_of_the_rounds_they_share() -> None:
    def point(name: str, *samples_s: float) -> AttentionPoint:
        return AttentionPoint(
            backend=name, algorithm="flash", batch=1, new_tokens=1, context_tokens=1, n_heads=1, n_kv_heads=1,
            head_dim=1, dtype="fp32", kernel=None, samples_s=list(samples_s), peak_bytes=None,
        )  # fmt: skip

    quiet = [point("naive", 2.0, 2.0, 2.0), point("sdpa", 1.0, 1.0, 9.0)]
    loud = [point("naive", 8.0, 6.0, 4.0), point("sdpa", 4.0, 3.0, 2.0)]
    assert probed_seconds([loud, quiet, []]) == {"naive": 2.0, "sdpa": 1.0}
    assert probed_seconds([[], []]) == {}


def test_lab_pairs_each_backend_with_naive(machine: Machine) -> None:
    small = [SHAPE._replace(new_tokens=1, context_tokens=n) for n in (20, 40)]
    said: list[tuple[str, float]] = []
    chosen = backends("naive", "sdpa", "efficient")
    rows = run_lab(machine, small, chosen, PLAN, lambda label, done: said.append((label, done)))
    assert [(row.shape.context_tokens, row.point.backend, row.ratio) for row in rows] == [
        (20, "naive", 1.0), (20, "sdpa", 1.0), (20, "efficient", None),
        (40, "naive", 1.0), (40, "sdpa", 1.0), (40, "efficient", None),
    ]  # fmt: skip
    probes, shapes = said[:-2], said[-2:]  # the heads are probed once
    assert [done for _, done in shapes] == [0.25, 0.75]
    assert (probes[0][1], probes[-1][1] < 0.25) == (0.0, True)
    assert {label.partition(",")[0] for label, _ in probes} == {"unit costs of 6 heads over 3"}
    assert rows[1].flops_per_s == pytest.approx(4 * 16 * 2 * 6 * 20 / rows[1].time_s)


def test_crossover_is_where_the_lead_stays() -> None:
    def row(length: int, ratio: float | None) -> LabRow:
        return LabRow(SHAPE._replace(context_tokens=length), None, None, None, ratio, ratio)  # type: ignore[arg-type]

    assert crossover_tokens([row(8, 0.5), row(64, 3.0), row(16, 1.2), row(32, 0.9)]) == 64
    assert crossover_tokens([row(8, 1.1), row(16, 1.2), row(32, None)], predicted=True) == 8
    assert crossover_tokens([row(8, 0.5), row(16, None)]) is None
