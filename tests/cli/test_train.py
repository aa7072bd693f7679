"""`llamalab train` on a small text: what it prints, what it leaves, and what it does where a roof is not known."""

import dataclasses
import json
from pathlib import Path

import pytest

from llamalab.cli import main
from llamalab.measure.roofs import quick
from llamalab.records.record import Roof

pytestmark = pytest.mark.shared
ROOFS = [
    Roof(kind=kind, dtype="fp32", per_second=1e11, seconds=1e-6, trusted=True)
    for kind in ("gemm", "stream", "copy", "cache", "attention", "launch")
]


@pytest.fixture
def options(shared_real: Path, tmp_path: Path) -> list[str]:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little dog. He liked to play with his friends.\n" * 60)
    return [
        "train", "--model", "stories260k", "--text", str(text), "--tokenizer", str(shared_real / "tok512.bin"),
        "--batch", "2", "--context", "16", "--device", "cpu", "--format", "json",
    ]  # fmt: skip


def trained(options: list[str], roofs: list[Roof], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(quick, "quick_roofs", lambda machine, arch: roofs)
    assert main(options) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_that_is_stopped_goes_on_as_one_that_was_not(options, tmp_path, monkeypatch, capsys) -> None:
    whole = trained([*options, "--steps", "6"], ROOFS, monkeypatch, capsys)
    run = [*options, "--steps", "6", "--run", str(tmp_path / "run")]
    first = trained([*run, "--until", "2"], ROOFS, monkeypatch, capsys)
    rest = trained(run, ROOFS, monkeypatch, capsys)
    losses = [step["loss"] for step in (*first["steps"], *rest["steps"])]
    assert losses == [step["loss"] for step in whole["steps"]]
    assert losses[-1] < losses[0]
    assert rest["held_out_loss"] == whole["held_out_loss"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-00000006"]
    assert whole["mfu"] == pytest.approx(whole["flops"] / whole["step_s"] / 1e11)


def test_a_run_keeps_what_it_has_learnt_while_it_goes_on(options, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("llamalab.cli.train._SAVE_S", -1.0)
    monkeypatch.setattr("llamalab.train.trainer.Trainer.held_out_loss", lambda self: 1 / 0)  # after the last step
    with pytest.raises(ZeroDivisionError):
        trained([*options, "--steps", "3", "--run", str(tmp_path / "run")], ROOFS, monkeypatch, capsys)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-00000003"]


@pytest.mark.parametrize(
    "change", [{"trusted": False, "reason": "a busy machine"}, {"per_second": None, "seconds": None}]
)
@pytest.mark.parametrize("kind", ["gemm", "stream", "launch"])
def test_a_roof_with_a_fault_costs_the_prediction_not_the_run(options, kind, change, monkeypatch, capsys) -> None:
    roofs = [dataclasses.replace(roof, **change) if roof.kind == kind else roof for roof in ROOFS]
    found = trained([*options, "--steps", "1"], roofs, monkeypatch, capsys)
    assert found["predicted_step_s"] is None
    assert f"the {kind} roof for fp32" in found["reason"]
    assert (found["mfu"] is None) == (kind == "gemm")
