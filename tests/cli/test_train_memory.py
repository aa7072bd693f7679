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
    assert "bytes) too much; try 4 devices" in err


@pytest.mark.parametrize(
    ("solve", "said"),
    [
        ("batch", "sequences in a step"), ("context", "tokens in each sequence"), ("weights", "is the widest type"),
        ("ranks", "at least 1 device"), ("recompute", "at least none recomputation"),
    ],
)  # fmt: skip
def test_training_is_solved_for(capsys: pytest.CaptureFixture[str], solve: str, said: str) -> None:
    assert said in asked(capsys, f"train-memory --memory 141GB --context 1024 --solve {solve}")[1]
    code, out, _ = asked(capsys, f"train-memory --memory 141GB --context 1024 --solve {solve} --format json")
    data = json.loads(out)
    assert code == 0
    assert data["solved"] == solve
    assert data["left_bytes"] == data["memory_bytes"] - data["total_bytes"] - data["margin_bytes"] >= 0


def test_devices_that_hold_a_step_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(asked(capsys, "train-memory --context 1024 --solve device --format json")[1])
    assert all(
        row["memory_bytes"] - row["left_bytes"] == data["total_bytes"] + data["margin_bytes"] for row in data["devices"]
    )
    assert all(row["left_bytes"] >= 0 for row in data["devices"])
    code, _, err = asked(capsys, "train-memory --model 70b --context 1m --solve device")
    assert code == 3
    assert "bytes) too little" in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--solve batch", "--solve must come with --memory or one device"),
        ("--solve batch --hardware l4,t4", "--solve must come with --memory or one device"),
        ("--solve device --memory 80GB", "must come without --memory and --hardware"),
        ("--solve context --memory 80GB --packing 4 --implementation fused", "without packed documents"),
        ("--hardware ryzen-7950x", "is a CPU; give --memory"),
    ],
)
def test_training_that_cannot_be_solved_for(capsys: pytest.CaptureFixture[str], options: str, sentence: str) -> None:
    code, _, err = asked(capsys, f"train-memory {options}")
    assert code == 2
    assert sentence in err
