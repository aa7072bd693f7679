"""`llamalab train` on a small text: what it prints, what it leaves, and what it does where a roof is not known."""

import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from llamalab import LlamaArch
from llamalab.analytic.roofline import Rates
from llamalab.analytic.training_time import TrainingRates
from llamalab.cli import main
from llamalab.errors import UnavailableError
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.training import step
from llamalab.records.roof import Roof
from llamalab.train.trainer import TrainingPlan

pytestmark = pytest.mark.shared
ROOF = Roof(kind="gemm", dtype="fp32", per_second=1e11, seconds=None, trusted=True)
SAME = dict.fromkeys(("gemm", "attention", "gather", "elementwise"), Rates(1e11, 1e10))


@pytest.fixture
def options(shared_real: Path, tmp_path: Path) -> list[str]:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little dog. He liked to play with his friends.\n" * 60)
    return [
        "train", "--model", "stories260k", "--text", str(text), "--tokenizer", str(shared_real / "tok512.bin"),
        "--batch", "2", "--context", "16", "--device", "cpu", "--format", "json",
    ]  # fmt: skip


def trained(options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], roof: Roof = ROOF):
    monkeypatch.setattr(step, "quick_gemm", lambda machine, arch: roof)
    monkeypatch.setattr(step, "training_rates", lambda machine, arch, shape: TrainingRates(SAME, SAME, 1e10))
    assert main(options) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_that_is_stopped_goes_on_as_one_that_was_not(options, tmp_path, monkeypatch, capsys) -> None:
    whole = trained([*options, "--steps", "6"], monkeypatch, capsys)
    run = [*options, "--steps", "6", "--run", str(tmp_path / "run")]
    first = trained([*run, "--until", "2"], monkeypatch, capsys)
    rest = trained(run, monkeypatch, capsys)
    losses = [step["loss"] for step in rest["steps"]]
    assert losses == [step["loss"] for step in whole["steps"]]
    assert rest["steps"][:2] == first["steps"]
    assert losses[-1] < losses[0]
    assert rest["held_out_loss"] == whole["held_out_loss"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["loss.svg", "run.json", "step-00000006"]
    assert whole["mfu"] == pytest.approx(whole["flops"] / whole["step_s"] / 1e11)
    assert whole["measured_memory_bytes"] == pytest.approx(whole["predicted_memory_bytes"], rel=0.02)


def test_the_curve_and_the_page_are_of_the_whole_run(options, tmp_path, monkeypatch, capsys) -> None:
    run = [*options, "--steps", "4", "--run", str(tmp_path / "run")]
    for until in ("2", "4"):
        data = trained([*run, "--until", until], monkeypatch, capsys)
    curve = ElementTree.parse(tmp_path / "run" / "loss.svg").getroot()
    assert f"from {data['steps'][0]['loss']:.2f} to {data['steps'][3]['loss']:.2f} in 4 steps" in "".join(
        curve.itertext()
    )
    assert not re.findall(r"#01fe", ElementTree.tostring(curve, encoding="unicode"))  # every colour is a variable
    page = tmp_path / "run.html"
    assert main(["report", "--from", str(tmp_path / "run" / "run.json"), "--out", str(page)]) == 0
    assert "memory at its peak" in capsys.readouterr().out
    assert "Loss over the steps" in page.read_text()
    foreign = tmp_path / "mine.svg"
    foreign.write_text("<svg/>")
    assert main([*options, "--steps", "1", "--curve", str(foreign)]) == 2
    assert foreign.read_text() == "<svg/>"


def test_a_run_file_that_is_spoilt_is_refused(tmp_path, capsys) -> None:
    spoilt = tmp_path / "run.json"
    spoilt.write_text(json.dumps({"steps": [{"step": 1}], "held_out_loss": 1.0, "plan": {}}))
    assert main(["report", "--from", str(spoilt), "--out", str(tmp_path / "x.html")]) == 2
    assert "must be what llamalab train wrote; model is wrong" in capsys.readouterr().err


def test_a_run_keeps_what_it_has_learnt_while_it_goes_on(options, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("llamalab.cli.train._SAVE_S", -1.0)
    monkeypatch.setattr("llamalab.train.trainer.Trainer.held_out_loss", lambda self: 1 / 0)  # after the last step
    with pytest.raises(ZeroDivisionError):
        trained([*options, "--steps", "3", "--run", str(tmp_path / "run")], monkeypatch, capsys)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-00000003"]


@pytest.mark.parametrize(
    "change", [{"trusted": False, "reason": "a busy machine"}, {"per_second": None, "seconds": None}]
)
def test_a_roof_with_a_fault_costs_the_share_not_the_run(options, change, monkeypatch, capsys) -> None:
    found = trained([*options, "--steps", "1"], monkeypatch, capsys, dataclasses.replace(ROOF, **change))
    assert found["mfu"] is None
    assert found["predicted_step_s"] > 0


def test_what_cannot_be_predicted_has_its_reason(monkeypatch) -> None:
    def refused(*given, **sizes):
        raise UnavailableError("a step's time must be that of a model without experts")

    monkeypatch.setattr(step, "quick_gemm", lambda machine, arch: ROOF)
    monkeypatch.setattr(step, "training_rates", refused)
    machine = Machine(torch.device("cpu"), clock=None, dtype="fp32")
    said = step.expected_step(machine, LlamaArch(16, 2, 4, 2, 32, 29), TrainingPlan(4, 2, 8))
    assert (said.predicted_step_s, said.peak_flops_per_s) == (None, 1e11)
    assert "without experts" in said.reason
