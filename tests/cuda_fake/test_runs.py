"""Whole runs through their CUDA branches: report, bench, profile, attention lab, taps, decode."""

import json

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import get_backend
from llamalab.instrument.taps import capture
from llamalab.measure.attention import unit_costs
from llamalab.measure.attention.lab import lab_machine, run_lab
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.bench.run import measure_bench
from llamalab.measure.device import watch
from llamalab.measure.report import run as report
from llamalab.measure.timing import timer
from llamalab.measure.timing.deadline import Deadline
from llamalab.model import build
from llamalab.records.record import Record
from llamalab.records.record_json import record_to_json
from tests.cuda_fake.conftest import FEW
from tests.cuda_fake.costs import Costs
from tests.cuda_fake.gpu import Gpu
from tests.cuda_fake.truth import WIDE, check_rows, record_of

pytestmark = pytest.mark.fake_cuda


@pytest.fixture
def reference() -> Record:
    """The rates of the simulated device."""
    return record_of(Costs())


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WORKING_S", 0.02)
    monkeypatch.setattr(timer, "_MOST_WARMUPS", 5)  # a simulated clock is steady from the first


def test_a_report_runs_and_its_record_is_written(gpu: Gpu, few_rounds: None, brief: None) -> None:
    record = report.measure_report("wide", WIDE, device="cuda", prompt_tokens=512, deadline=Deadline(4.0))
    assert json.loads(record_to_json(record))["environment"]["device"] == "cuda"
    assert [one.kind for one in record.roofs if not one.trusted] == []
    assert [run.phase for run in record.passes] == ["prefill", "decode"]
    for run, shown in zip(record.passes, record.profile or [], strict=True):
        assert run.memory.method == "cuda: max_memory_allocated"
        check_rows(gpu.costs, shown.ops, run.new_tokens, run.context_tokens)
    timed = {point.backend for point in record.attention if point.samples_s}
    assert timed == {"naive", "sdpa"}


def test_a_bench_warms_every_length_that_it_times(gpu: Gpu, few_rounds: None, brief: None, reference: Record) -> None:
    cases = [BenchCase(64, 0), BenchCase(0, 6, 16, 2), BenchCase(32, 4)]
    for attention in ("sdpa", "cudnn"):  # the second plans for every length, which costs 30 ms
        rows = list(measure_bench("wide", WIDE, cases, device="cuda", repetitions=2, attention=attention,
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
    model = build(WIDE, device="cuda", dtype="bf16").eval()
    tokens_BT = torch.zeros(1, 8, dtype=torch.int64, device="cuda")
    with capture(model, "layers.*.resid_post", device="cpu") as got:
        model(tokens_BT)
        assert gpu.host_s < gpu.device_s
        assert got["layers.1.resid_post"].device.type == "cpu"
        assert gpu.host_s >= gpu.device_s  # who looked has waited
