"""A device that records no graphs, and one of which the driver tells nothing: every verb goes on and says so."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.cli import main
from llamalab.measure.attention.calls import measure_attention
from llamalab.measure.attention.lab import lab_machine
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.bench.run import measure_bench
from llamalab.measure.calibration.run import calibrate
from llamalab.measure.device import nvml, watch
from llamalab.measure.device.machine import clock_for, device_of
from llamalab.measure.profile.run import measure_profile
from llamalab.measure.report import run as report
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.moves import cache_roof
from llamalab.measure.timing import timer
from llamalab.measure.timing.deadline import Deadline
from llamalab.model import build
from llamalab.text.decode_loop import DecodeLoop
from tests.cuda_fake.conftest import FEW
from tests.cuda_fake.costs import Costs
from tests.cuda_fake.gpu import Gpu
from tests.cuda_fake.torch_cuda import installed
from tests.cuda_fake.truth import record_of

pytestmark = pytest.mark.fake_cuda
PLACE, ARCH = torch.device("cuda", 0), LlamaArch(1024, 1, 8, 8, 2752, 2048)
REFUSAL = "CUDA error: operation not supported"
UNREAD = {"clock_hz", "memory_clock_hz", "power_w", "temperature_c", "throttle_reasons"}


@pytest.fixture
def bare(guard: None, few_rounds: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A GPU that records no graphs, on a machine without the driver's library."""

    def absent(name: str) -> Any:
        raise ImportError(f"no {name}")

    monkeypatch.setattr(watch, "WORKING_S", 0.002)
    monkeypatch.setattr(timer, "_MOST_WARMUPS", 1)
    with installed(monkeypatch, Gpu(records=False)) as gpu:
        monkeypatch.setattr(nvml, "import_module", absent)
        yield gpu


def test_the_cache_is_measured_by_launches(bare: Gpu) -> None:
    found, costs = cache_roof(Machine(PLACE, clock_for(PLACE), "bf16")), bare.costs
    truth = costs.cached_bytes / (costs.move_s(costs.cached_bytes) + costs.gap_s)
    assert found.trusted
    assert found.per_second == pytest.approx(truth, rel=0.05)


def test_attention_is_timed_by_launches_and_the_lab_says_so(bare: Gpu) -> None:
    shape = AttentionShape(1, 256, 256, 8, 8, 64, "bf16", "bf16")
    machine, remark = lab_machine("cuda", "bf16", [shape])
    assert remark == f"this device records no graphs ({REFUSAL}): short calls show their launches"
    points = measure_attention(machine, shape, [get_backend(name) for name in ("naive", "flash")], FEW)
    flash_s = bare.costs.attention_s((1, 8, 256, 64), 256, 8, 2) + bare.costs.gap_s
    assert points[1].samples_s == pytest.approx([flash_s] * 2, rel=0.05)
    assert all(point.samples_s and point.reason is None for point in points)


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_launched_one_by_one(bare: Gpu, fused: bool) -> None:
    if fused:
        pytest.importorskip("triton")
    model = build(ARCH, device="cuda", dtype="bf16").eval()
    loop = DecodeLoop(model, batch=2, max_tokens=300, fused=fused)
    loop.prefill(torch.zeros(2, 20, dtype=torch.int64, device="cuda"))
    assert loop.steps(3).shape == (2, 3)
    assert (loop.unrecorded, loop._graphs, loop.cache.length) == (REFUSAL, {}, 23)


def test_a_report_says_what_it_did_without(bare: Gpu) -> None:
    record = report.measure_report("narrow", ARCH, device="cuda", prompt_tokens=64, deadline=Deadline(2.0))
    assert [run.phase for run in record.passes] == ["prefill", "decode"]
    assert {point.backend for point in record.attention if point.samples_s} == {"naive", "sdpa"}
    (note,) = [note for note in record.notes if "graphs" in note]
    assert note.startswith(f"The device records no graphs ({REFUSAL}): ")
    states = [record.environment.before, record.environment.after]
    assert all(state is not None and set(state.missing) >= UNREAD for state in states)
    assert record.environment.driver is None


def test_a_profile_and_a_bench_go_on(bare: Gpu) -> None:
    reference = record_of(Costs(), ARCH)
    found = measure_profile(
        build(ARCH, device="cuda", dtype="bf16").eval(), budget_s=0.02, prompt_tokens=64, reference=reference
    )
    for phase in found.phases:
        assert all(row.device_s for row in phase.ops)
        assert set(phase.during.missing) >= UNREAD
        assert phase.throttled is None
    rows = measure_bench(
        "narrow", ARCH, [BenchCase(64, 0), BenchCase(0, 2, 16)], device="cuda", repetitions=1, reference=reference,
        repeat_s=0.0,
    )  # fmt: skip
    assert [(row.reason, row.throttle_reasons) for row in rows] == [(None, None)] * 2


def test_a_calibration_goes_on(bare: Gpu) -> None:
    made = calibrate(device="cuda", quick=True, deadline=Deadline(2.0))
    assert made.outcomes
    assert {"gemm", "attention_prefill", "attention_decode"} <= made.rates.keys()


def test_energy_and_memory_of_others_are_unknown_with_a_reason(bare: Gpu) -> None:
    count, _ = device_of(PLACE).energy_counter()
    assert count() == (None, "nvidia-ml-py is not installed; pip install nvidia-ml-py")
    assert device_of(PLACE).process_bytes()[0] is None


def test_doctor_says_what_is_not_there(bare: Gpu, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--format", "json"])
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["graphs:0"]["status"] == "warn"
    assert REFUSAL in checks["graphs:0"]["found"]


def test_a_device_that_records_graphs_is_not_spoken_of(gpu: Gpu, capsys: pytest.CaptureFixture[str]) -> None:
    assert device_of(PLACE).graph_refusal is None
    main(["doctor", "--format", "json"])
    assert "graphs:0" not in capsys.readouterr().out
