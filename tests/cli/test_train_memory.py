"""llamalab train-memory: every level of recomputation, and a refusal where none fits."""

import json

import pytest

from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training import training_memory
from llamalab.presets import PRESETS
from tests.cli.calls import asked


def test_training_memory_shows_every_level_and_the_chosen_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(capsys, "train-memory --model 13b --seq 1024 --recompute full --format json")
    data = json.loads(out)
    expected = training_memory(PRESETS["13b"].arch, PassShape(new_tokens=1024), recompute="full")
    assert code == 0
    assert data["total_bytes"] == expected.total_bytes
    assert [row["recompute"] for row in data["levels"]] == ["none", "selective", "full"]


def test_training_that_does_not_fit_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = asked(capsys, "train-memory --model 7b --hardware a100-40gb-sxm")
    assert code == 3
    assert "GiB too much" in err
