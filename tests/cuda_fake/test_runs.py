"""Whole runs through their CUDA branches: report, bench, profile, attention lab, taps, decode."""

import json

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.instrument.taps import capture
from llamalab.measure.attention import unit_costs
from llamalab.measure.attention.lab import lab_machine, run_lab
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.bench.run import measure_bench
from llamalab.measure.device import watch
from llamalab.measure.profile.run import measure_profile, reference_of
from llamalab.measure.report import run as report
from llamalab.measure.timing import timer
from llamalab.measure.timing.deadline import Deadline
from llamalab.model import build
from llamalab.records.phase_profile import OpProfile
from llamalab.records.record import Record, unmeasured
from llamalab.records.record_json import record_to_json
from llamalab.records.roof import Roof
from tests.cuda_fake.conftest import FEW
from tests.cuda_fake.gpu import Gpu
from tests.report.sample import environment

pytestmark = pytest.mark.fake_cuda
ARCH = LlamaArch(4096, 2, 32, 8, 11008, 2048)
ROOFS = {"gemm": 750e12, "stream": 3e12, "copy": 3e12, "cache": 4.86e12, "attention": 450e12}


@pytest.fixture
def reference() -> Record:
    """The rates of the simulated device."""
    roofs = [Roof(kind=kind, dtype="bf16", per_second=rate, trusted=True, doubling_ratio=2.0)
             for kind, rate in ROOFS.items()]  # fmt: skip
    launch = Roof(kind="launch", dtype="bf16", per_second=None, seconds=2.5e-6, trusted=True, doubling_ratio=2.0)
    return unmeasured("wide", ARCH, "bf16", environment(device="cuda"), [*roofs, launch])


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WORKING_S", 0.02)
    monkeypatch.setattr(timer, "_MOST_WARMUPS", 5)  # a simulated clock is steady from the first


def kernel_seconds(gpu: Gpu, name: str, new: int, context: int) -> float | None:
    """What the simulator charges for the kernels of an operation; None where they are several."""
    dim, kv, ffn, costs = ARCH.dim, ARCH.kv_dim, ARCH.ffn_dim, gpu.costs
    weights = {"wq": (dim, dim), "wk": (kv, dim), "wv": (kv, dim), "wo": (dim, dim),
               "w1": (ffn, dim), "w3": (ffn, dim), "w2": (dim, ffn)}  # fmt: skip
    last = name.rpartition(".")[2]
    if last in weights:
        out, inner = weights[last]
        return costs.product_s(new, out, inner, 2)
    if last == "flash":
        return costs.attention_s((1, ARCH.n_heads, new, ARCH.head_dim), context, ARCH.n_kv_heads, 2)
    return None


def check_rows(gpu: Gpu, rows: list[OpProfile], new: int, context: int) -> None:
    known = 0
    for row in rows:
        assert row.roof_fraction is None or row.roof_fraction <= 1.0, row.name
        assert row.device_s is not None
        truth_s = kernel_seconds(gpu, row.name, new, context)
        if truth_s is not None:
            known += 1
            assert row.device_s == pytest.approx(truth_s, rel=0.05), row.name
            assert row.time_s == pytest.approx(truth_s + gpu.costs.gap_s, rel=0.05), row.name
        assert not any("layers." in kernel for kernel in row.kernels)  # a range is no kernel
    assert known == 8


def test_a_profile_shows_the_kernels_own_time_and_closes(
    gpu: Gpu, few_rounds: None, brief: None, reference: Record
) -> None:
    model = build(ARCH, device="cuda", dtype="bf16").eval()
    found = measure_profile(model, budget_s=0.02, prompt_tokens=512, reference=reference)
    for phase in found.phases:
        check_rows(gpu, phase.ops, phase.new_tokens, phase.context_tokens)
        assert abs(phase.closure) < 0.05, phase.closure
        assert phase.memory.method == "cuda: allocator history"
        assert phase.memory.peak_bytes
        assert phase.during.clock_hz == 1_980_000_000
        assert phase.throttled == ["software power cap"]
    assert found.phases[1].kernel == "aten::_scaled_dot_product_flash_attention"
    assert json.loads(record_to_json(reference_of(found)))


def test_a_report_runs_and_its_record_is_written(gpu: Gpu, few_rounds: None, brief: None) -> None:
    record = report.measure_report("wide", ARCH, device="cuda", prompt_tokens=512, deadline=Deadline(4.0))
    assert json.loads(record_to_json(record))["environment"]["device"] == "cuda"
    assert [one.kind for one in record.roofs if not one.trusted] == []
    assert [run.phase for run in record.passes] == ["prefill", "decode"]
    for run, shown in zip(record.passes, record.profile or [], strict=True):
        assert run.memory.method == "cuda: max_memory_allocated"
        check_rows(gpu, shown.ops, run.new_tokens, run.context_tokens)
    timed = {point.backend for point in record.attention if point.samples_s}
    assert timed == {"naive", "sdpa"}


def test_a_bench_warms_every_length_that_it_times(gpu: Gpu, few_rounds: None, brief: None, reference: Record) -> None:
    cases = [BenchCase(64, 0), BenchCase(0, 6, 16, 2), BenchCase(32, 4)]
    for attention in ("sdpa", "cudnn"):  # the second plans for every length, which costs 30 ms
        rows = list(measure_bench("wide", ARCH, cases, device="cuda", repetitions=2, attention=attention,
                                  reference=reference, repeat_s=0.0))  # fmt: skip
        for row in rows:
            assert row.reason is None
            assert max(seconds for one in row.passes_s for seconds in one) < gpu.costs.plan_s / 2, row.test
            assert row.memory_method == "cuda: max_memory_allocated"
            assert row.throttle_reasons == ["software power cap"]
            assert (row.gemm_fraction or 0.0) <= 1.0
            assert (row.stream_fraction or 0.0) <= 1.0


def test_the_lab_times_every_backend_in_graphs(gpu: Gpu, few_rounds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_costs, "_VISITS", 1)
    monkeypatch.setattr(unit_costs, "PROBE_PREFILL", (96, 384))
    shape = AttentionShape(1, 256, 256, 8, 8, 64, "bf16", "bf16")
    backends = [get_backend(name) for name in ("naive", "sdpa", "flash", "efficient", "cudnn")]
    machine, remark = lab_machine("cuda", "bf16", [shape])
    rows = run_lab(machine, [shape], backends, FEW)
    assert remark is None
    assert {row.point.backend for row in rows if row.point.samples_s} == {one.name for one in backends}
    flash = next(row for row in rows if row.point.backend == "flash")
    truth_s = gpu.costs.attention_s((1, 8, 256, 64), 256, 8, 2) + gpu.costs.graph_gap_s
    assert flash.time_s == pytest.approx(truth_s, rel=0.05)


def test_taps_copy_to_the_host_and_are_waited_for(gpu: Gpu) -> None:
    model = build(ARCH, device="cuda", dtype="bf16").eval()
    tokens_BT = torch.zeros(1, 8, dtype=torch.int64, device="cuda")
    with capture(model, "layers.*.resid_post", device="cpu") as got:
        model(tokens_BT)
        assert gpu.host_s < gpu.device_s
        assert got["layers.1.resid_post"].device.type == "cpu"
        assert gpu.host_s >= gpu.device_s  # who looked has waited
