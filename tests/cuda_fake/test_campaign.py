"""Steps of a campaign on the simulated GPU where something is absent: a driver's library, a sensor, memory.

The models have two blocks. What a report measures is a sample here: test_runs.py has it whole.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import campaign, device_traces
from experiments.common import campaign_makers
from experiments.common.isolated import Outcome, outcome_of
from llamalab.arch import LlamaArch
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.device import nvml, watch
from llamalab.measure.report import run as report
from llamalab.measure.timing import timer
from llamalab.presets import resolve_model
from tests.cuda_fake.gpu import Gpu
from tests.fakes import everywhere
from tests.measure.fakes import FakeNvml
from tests.measure.traces import check_traces, read_traces
from tests.report.sample import sample_record

pytestmark = pytest.mark.fake_cuda
MODEL = "7b"


def here(work: Callable[[], object], limit_s: float) -> Outcome:
    """A step in this process: the simulated GPU is in no other."""
    return outcome_of(work)


@pytest.fixture
def short(few_rounds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of everything, two blocks of every model, few sizes."""
    monkeypatch.setattr(timer, "_rounds", lambda *_: 2)
    monkeypatch.setattr(timer, "_MOST_WARMUPS", 1)
    monkeypatch.setattr(watch, "WORKING_S", 0.02)
    monkeypatch.setattr(device_traces, "IDLE_S", 0.05)
    everywhere(monkeypatch, resolve_model, _shallow)
    monkeypatch.setattr(report, "measure_report", lambda *_, **__: sample_record(MODEL))
    monkeypatch.setattr(campaign_makers, "cases", lambda *_, **__: [BenchCase(64, 0), BenchCase(0, 2, 30, 2)])


def _shallow(name: str) -> tuple[str, LlamaArch]:
    found, arch = resolve_model(name)
    return found, arch.replace(n_layers=2)


def walk(folder: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """A campaign's exit code, and its notes by step."""
    code = campaign.main(
        ["--device", "cuda", "--models", MODEL, "--budget", "1e9", "--out", str(folder), *options], run=here
    )
    (notes,) = folder.glob(f"*/{campaign.MANIFEST}")
    return code, json.loads(notes.read_text())["campaign"]


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
    gpu: Gpu, short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small share of a GPU: the pass fits, the batch of long prompts does not."""
    gpu.allocator.total_bytes = 4 << 30
    monkeypatch.setattr(campaign_makers, "cases", lambda *_, **__: [BenchCase(64, 0), BenchCase(2048, 0, 0, 64)])
    code, _ = walk(tmp_path, "--only", f"report-{MODEL},bench-{MODEL}")
    rows = json.loads(next(tmp_path.glob(f"*/bench-{MODEL}.json")).read_text())["rows"]
    assert code == 0
    assert [row["tokens_per_s"] is None for row in rows] == [False, True]
    assert "fit" in rows[1]["reason"] or "free" in rows[1]["reason"]
