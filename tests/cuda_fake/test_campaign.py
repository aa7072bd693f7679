"""A campaign on the simulated GPU, from its first step to its last, with what goes wrong on the way.

What cannot be had without a GPU is put in the place of: the compiler (models run as they are) and pytest in a process
of its own. The models have two blocks, and every step a few sizes. What a report measures is a sample here, and the
calibration is left out: test_runs.py and test_devices.py have them whole. The contestants of versus run in this
process.
"""

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from experiments import (
    attention_backends,
    campaign,
    decode_series,
    device_traces,
    flash_vs_naive,
    gqa_groups,
    memory_peaks,
    tap_cost,
    tied_blocks,
    versus,
)
from experiments.common import campaign_makers, contestants
from experiments.common.campaign_goals import GOALS, reached
from experiments.common.campaign_steps import all_steps
from experiments.common.contestants import Entry, Turns
from experiments.common.isolated import Outcome, outcome_of
from experiments.common.sides import token_s
from llamalab.arch import LlamaArch
from llamalab.measure.attention import unit_costs
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.device import nvml, watch
from llamalab.measure.report import run as report
from llamalab.measure.timing import timer
from llamalab.presets import resolve_model
from llamalab.records.record_json import record_from_json
from tests.cuda_fake.gpu import Gpu
from tests.fakes import everywhere
from tests.measure.fakes import FakeNvml
from tests.measure.traces import check_traces, read_traces
from tests.report.sample import sample_record

pytestmark = pytest.mark.fake_cuda
MODEL = "7b"
STEPS = [step.name for step in all_steps("cuda", [MODEL]) if step.name != "calibration"]


def here(work: Callable[[], object], limit_s: float) -> Outcome:
    """A step in this process: the simulated GPU is in no other."""
    return outcome_of(work)


@pytest.fixture
def short(few_rounds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of everything, two blocks of every model, few sizes."""
    monkeypatch.setattr(timer, "_rounds", lambda *_: 2)
    monkeypatch.setattr(timer, "_MOST_WARMUPS", 1)
    monkeypatch.setattr(watch, "WORKING_S", 0.02)
    monkeypatch.setattr(unit_costs, "_VISITS", 1)
    monkeypatch.setattr(device_traces, "IDLE_S", 0.05)
    everywhere(monkeypatch, resolve_model, _shallow)
    monkeypatch.setattr(report, "measure_report", lambda *_, **__: sample_record(MODEL))
    monkeypatch.setattr(campaign_makers, "cases", lambda *_, **__: [BenchCase(2048, 0), BenchCase(0, 2, 30, 2)])
    _few(monkeypatch, decode_series.SCALES, steps=2, sizes=((1, 30),))
    monkeypatch.setattr(attention_backends, "HEADS", {MODEL: (32, 32)})
    _few(monkeypatch, attention_backends.SCALES, prefill=(1024,), decode=((1, 1024),))
    monkeypatch.setitem(memory_peaks.CASES, "cuda", memory_peaks.CASES["cuda"][:1])
    monkeypatch.setattr(flash_vs_naive, "SHORTEST", 4096)
    monkeypatch.setattr(gqa_groups, "BASE", LlamaArch(1024, 1, 2, 2, 2752, 4096))
    monkeypatch.setattr(tied_blocks, "ARCH", tied_blocks.ARCH.replace(n_layers=2))
    race = versus.measure
    monkeypatch.setattr(
        versus,
        "measure",
        lambda arch, dtype, _, *rest, **options: race(arch.replace(n_layers=1), dtype, 1, *rest, **options),
    )
    monkeypatch.setattr(contestants, "STEPS", 1)
    arch, dtype = tap_cost.MODELS["cuda"]
    monkeypatch.setitem(tap_cost.MODELS, "cuda", (arch.replace(n_layers=2), dtype))


def _shallow(name: str) -> tuple[str, LlamaArch]:
    found, arch = resolve_model(name)
    return found, arch.replace(n_layers=2)


def _few(monkeypatch: pytest.MonkeyPatch, scales: dict[str, Any], **fewer: Any) -> None:
    monkeypatch.setitem(scales, "cuda", scales["cuda"]._replace(**fewer))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler, no processes, no network."""
    monkeypatch.setattr(nn.Module, "compile", lambda *_, **__: None)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    run = subprocess.run

    def ran(command: Any, **options: Any) -> Any:
        if "pytest" not in command:
            return run(command, **options)
        return subprocess.CompletedProcess(command, 0, "4 passed in 1.00s", "")

    monkeypatch.setattr(subprocess, "run", ran)
    monkeypatch.setattr(versus, "started", contestant)
    monkeypatch.setattr(versus, "ask", lambda side, name: token_s(side.turns[name]))
    monkeypatch.setattr(versus, "end", list)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a campaign needs no network"))


class Contestant(NamedTuple):
    """A contestant of versus in this process; as experiments.common.sides has it in another."""

    entry: Entry
    turns: Turns
    names: list[str]


def contestant(entry: Entry, arch: LlamaArch, dtype: str, folder: Path) -> Contestant:
    turns = entry.turns(arch, dtype, folder)
    return Contestant(entry, turns, list(turns))


def walk(folder: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """A campaign's exit code, and its notes by step."""
    code = campaign.main(
        ["--device", "cuda", "--models", MODEL, "--budget", "1e9", "--out", str(folder), *options], run=here
    )
    (notes,) = folder.glob(f"*/{campaign.MANIFEST}")
    return code, json.loads(notes.read_text())["campaign"]


def test_a_campaign_is_walked_to_its_end_and_taken_up_again_after_what_failed(
    gpu: Gpu, short: None, alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    def absent(*_: Any, **__: Any) -> Any:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    with monkeypatch.context() as broken:
        broken.setattr(memory_peaks, "measure", full)
        broken.setattr(flash_vs_naive, "measure", absent)
        code, notes = walk(tmp_path, "--only", ",".join(STEPS))
    said, (folder,) = capsys.readouterr(), tmp_path.glob("*/")
    assert code == 1
    check_goals(folder, said.out)
    assert set(STEPS) - set(notes) == {"memory_peaks", "flash_vs_naive"}, said.err[-3000:]
    assert "OutOfMemoryError: CUDA out of memory" in said.out
    assert "the package scipy must be there; it is not installed; pip install scipy" in said.out

    code, again = walk(tmp_path, "--only", "plan_times,memory_peaks,device_traces")
    assert code == 0
    assert set(again) - set(notes) == {"memory_peaks"}
    assert {name: again[name] for name in notes} == notes  # kept, not made again
    check_files(folder, gpu)


def check_goals(folder: Path, said: str) -> None:
    """The last lines are the goals, in their order, each with the share that the files of its steps give."""
    goals = reached(folder)
    assert said.splitlines()[-len(GOALS) :] == [one.line for one in goals]
    for one in goals[:2]:
        assert one.share is not None
        assert 0 < one.share <= 1
        assert f"{one.share:.1%} measured, {one.goal.share:.0%} asked" in one.line


def check_files(folder: Path, gpu: Gpu) -> None:
    """What each step left says what is true of the device."""
    answers = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    record = record_from_json((folder / f"{MODEL}.json").read_text(), source="record")
    assert [run.phase for run in record.passes] == ["prefill", "decode"]
    assert all(row["tokens_per_s"] > 0 for row in answers[f"bench-{MODEL}"]["rows"])
    plans = {row["backend"]: row for row in answers["plan_times"]["rows"]}
    assert min(plans["cudnn"]["first_s"]) > gpu.costs.plan_s > max(plans["flash"]["first_s"])
    assert "sdpa does not plan" in answers["plan_times"]["conclusion"]
    series = {row["series"]: row["of_copy"] for row in answers["decode_series"]["measured"]}
    assert set(series) == {"plain", "loop", "fused"}
    assert max(series.values()) <= 1
    ran = {row["backend"] for row in answers["attention_backends"]["measured"] if row["samples_s"]}
    assert {"naive", "flash", "cudnn", "efficient", "sdpa"} <= ran
    race = answers["versus"]["found"]
    assert set(race["tokens_per_s"]) == {"llamalab bf16", "transformers", "transformers compiled"}
    assert {one["phase"] for one in race["ratios"]} == {"prefill", "decode"}
    traces = read_traces(folder / "device_traces.json")
    check_traces(traces)
    assert set(traces.passes) == {(name, phase) for name in device_traces.BACKENDS for phase in ("prefill", "decode")}
    assert traces.power_w["work"]


WITHOUT = {
    "no driver library": (ImportError("no pynvml"), {"clock_hz", "power_w", "temperature_c"}),
    "no power sensor": (FakeNvml(broken=("nvmlDeviceGetPowerUsage",)), {"power_w"}),
    "a driver that fails": (FakeNvml(broken=("nvmlInit",)), {"clock_hz", "power_w", "temperature_c"}),
}


@pytest.mark.parametrize("what", WITHOUT)
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_traces_are_kept_whatever_the_driver_tells(
    gpu: Gpu, short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, device: str
) -> None:
    library, unknown = WITHOUT[what]
    gpu.count = 2

    def load(name: str) -> Any:
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(nvml, "import_module", load)
    monkeypatch.setattr(device_traces, "BACKENDS", ("sdpa",))
    path = tmp_path / "device_traces.json"
    device_traces.main(["--device", device, "--out", str(path), "--idle", "0.01"])
    assert torch.cuda.current_device() == int(device.endswith("1"))
    check_traces(read_traces(path))
    for part in json.loads(path.read_text())["sensors"].values():
        for reading in part["readings"]:
            assert {name for name in unknown if reading[name] is None} == unknown
            assert unknown <= set(reading["missing"])


def test_a_model_that_leaves_no_room_is_rows_with_reasons(
    gpu: Gpu, short: None, alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small share of a GPU: the pass fits, the batch of long prompts does not."""
    gpu.allocator.total_bytes = 4 << 30
    monkeypatch.setattr(campaign_makers, "cases", lambda *_, **__: [BenchCase(64, 0), BenchCase(2048, 0, 0, 64)])
    code, _ = walk(tmp_path, "--only", f"report-{MODEL},bench-{MODEL}")
    rows = json.loads(next(tmp_path.glob(f"*/bench-{MODEL}.json")).read_text())["rows"]
    assert code == 0
    assert [row["tokens_per_s"] is None for row in rows] == [False, True]
    assert "fit" in rows[1]["reason"] or "free" in rows[1]["reason"]
