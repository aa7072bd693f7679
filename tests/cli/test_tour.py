"""llamalab tour: its figures are the cost table's, its values the model's, its drawing the pattern."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.cli.tour import _drawn, _numbers
from llamalab.instrument.points import POINTS, what_does
from llamalab.measure.profile.walk import walk
from llamalab.model import Transformer
from llamalab.model.build import build
from tests.cli.calls import Capture, printed, refused

TEXT = "Lily likes cats and dogs"


def arguments(real: Path, *more: str) -> list[str]:
    return ["tour", "--model", str(real / "stories260K.bin"), "--tokenizer", str(real / "tok512.bin"), *more]


@pytest.mark.shared
def test_the_walk_is_of_this_sentence(shared_real: Path, capsys: Capture) -> None:
    asked = arguments(shared_real, "--text", TEXT, "--layer", "2", "--head", "1", "--format", "json")
    said: dict[str, Any] = json.loads(printed(capsys, *asked))
    model = load(shared_real / "stories260K.bin", attention="naive")
    with torch.no_grad():
        logits_V = model(torch.tensor([said["token_ids"]]))[0, -1]
    assert said["next"][0]["id"] == int(logits_V.argmax())
    assert said["next"][0]["probability"] == pytest.approx(float(logits_V.softmax(-1).max()), abs=1e-5)
    tokens = len(said["token_ids"])
    shape = PassShape(new_tokens=tokens, dtype="fp32", attention="naive", logits="all")
    table = {op.name: op for op in forward_ops(model.arch, shape)}
    assert [step["operation"] for step in said["steps"]] == [name.removeprefix("layers.*.") for name in table]
    scores = next(step for step in said["steps"] if step["operation"] == "attention.scores")
    assert scores["bytes"] == table["layers.*.attention.scores"].bytes
    assert scores["sizes"] == f"1 × 8 × {tokens} × {tokens}"
    assert all(step["time_s"] > 0 for step in said["steps"])
    assert all(sum(row["weights"]) == pytest.approx(1.0, abs=1e-5) for row in said["pattern"])
    assert [len(row["weights"]) for row in said["pattern"]] == list(range(1, tokens + 1))


@pytest.mark.shared
def test_people_see_steps_pattern_and_words(shared_real: Path, capsys: Capture) -> None:
    shown = printed(capsys, *arguments(shared_real, "--text", TEXT))
    assert "12 tokens: '<s>' ' Lily' ' li' 'ke' 's' ' c' 'at' 's' ' and' ' do' 'g' 's'" in shown
    assert "queries: q = x Wqᵀ" in shown
    assert "█" in shown


@pytest.mark.shared
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--layer", "5"), "--layer must be from 0 to 4; got 5"),
        (("--head", "-1"), "--head must be from 0 to 7; got -1"),
        (("--text", "cat " * 400), "--text must be 1 to 512 tokens"),
    ],
)
def test_what_is_not_there_is_refused(shared_real: Path, capsys: Capture, more: tuple[str, ...], said: str) -> None:
    assert said in refused(capsys, *arguments(shared_real, *more))


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_with_a_window_have_rows_of_their_own(layer: int) -> None:
    arch = LlamaArch(16, 2, 2, 2, 24, 30, window=2, full_layers=(1,))
    model: Transformer = build(arch, dtype="fp32", attention="naive").eval()
    seen = walk(model, torch.tensor([[1, 2, 3, 4]]), layer=layer)
    names = [step.op.name.rpartition(".")[2] for step in seen.steps]
    assert ("scores_window" in names) == (layer == 0)
    assert ("scores" in names) == (layer == 1)
    assert int((seen.pattern_HTS[0, -1] > 0).sum()) == (2 if layer == 0 else 4)


def test_every_operation_has_its_words() -> None:
    for operation in {point.op for point in POINTS if point.op is not None}:
        assert what_does(operation) != operation.rpartition(".")[2]
    assert what_does("layers.*.attention.scores_window") == what_does("layers.*.attention.scores")


def test_drawings() -> None:
    assert _drawn([0.0, 0.26, 0.5, 0.74, 1.0]) == " ░▒▓█"
    assert _numbers([1.0, None]) == "+1.00 -∞ …"
