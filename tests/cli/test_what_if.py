"""compare-hardware, roofline and train-memory."""

import json
from pathlib import Path

import pytest

from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training import training_memory
from llamalab.cli import main
from llamalab.presets import PRESETS


def ask(capsys: pytest.CaptureFixture[str], command: str) -> tuple[int, str, str]:
    code = main(command.split())
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("order", "key", "sign"),
    [("latency", "total_s", 1), ("throughput", "tokens_per_s", -1), ("efficiency", "tokens_per_s_per_device", -1)],
)
def test_devices_and_their_counts_are_ranked(
    capsys: pytest.CaptureFixture[str], order: str, key: str, sign: int
) -> None:
    command = f"compare-hardware --model 70b --prompt 2048 --generate 256 --by {order} --format json"
    code, out, _ = ask(capsys, command)
    data = json.loads(out)
    values = [sign * row[key] for row in data["ranked"]]
    assert code == 0
    assert values == sorted(values)
    assert {row["tensor_parallel"] for row in data["ranked"]} >= {2, 4, 8}
    unfit = {(row["hardware"], row["tensor_parallel"]) for row in data["not_ranked"]}
    assert ("h100-80gb-sxm", 1) in unfit
    assert all(row["reason"] for row in data["not_ranked"])


def test_nothing_to_rank_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, "compare-hardware --model 70b --hardware l4-24gb --tensor-parallel 1")
    assert code == 3
    assert "too much" in err


def test_a_roofline_says_what_limits_and_what_would_move_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "roofline --model 7b --hardware h100-80gb-sxm --format json")
    data = json.loads(out)
    assert code == 0
    words = "\n".join(data["words"])
    assert "limited by compute" in words
    assert "narrower weights" in words
    for phase in ("prefill", "decode"):
        assert sum(row["share"] for row in data["ops"] if row["phase"] == phase) == pytest.approx(1)


def test_a_roofline_is_drawn_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, "roofline")
    assert "ridge at 223" in out  # at the highest clock
    assert "//" in out


def test_a_roofline_is_drawn_as_svg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "roofline.svg"
    assert ask(capsys, f"roofline --svg {path}")[0] == 0
    assert "<svg" in path.read_text()


def test_several_rooflines_are_a_row_each_and_drawn_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "roofline --batch 1,64 --format json")
    one, many = json.loads(out)["rows"]
    assert code == 0
    assert one["decode_memory"] > 0.5 > one["decode_compute"]
    assert many["decode_s"] > one["decode_s"]
    assert ask(capsys, "roofline --batch 1,2 --svg out.svg")[0] == 2


def test_training_memory_shows_every_level_and_the_chosen_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "train-memory --model 13b --seq 1024 --recompute full --format json")
    data = json.loads(out)
    expected = training_memory(PRESETS["13b"].arch, PassShape(new_tokens=1024), recompute="full")
    assert code == 0
    assert data["total_bytes"] == expected.total_bytes
    assert [row["recompute"] for row in data["levels"]] == ["none", "selective", "full"]


def test_training_that_does_not_fit_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, "train-memory --model 7b --hardware a100-40gb-sxm")
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
    assert said in ask(capsys, f"train-memory --memory 141GB --context 1024 --solve {solve}")[1]
    code, out, _ = ask(capsys, f"train-memory --memory 141GB --context 1024 --solve {solve} --format json")
    data = json.loads(out)
    assert code == 0
    assert data["solved"] == solve
    assert data["left_bytes"] == data["memory_bytes"] - data["total_bytes"] >= 0


def test_devices_that_hold_a_step_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(ask(capsys, "train-memory --context 1024 --solve device --format json")[1])
    assert all(row["memory_bytes"] - row["left_bytes"] == data["total_bytes"] for row in data["devices"])
    assert all(row["left_bytes"] >= 0 for row in data["devices"])
    code, _, err = ask(capsys, "train-memory --model 70b --context 1m --solve device")
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
    code, _, err = ask(capsys, f"train-memory {options}")
    assert code == 2
    assert sentence in err


def test_splits_are_ranked_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--model 70b --hardware h100-80gb-sxm --batch 8 --tp 2,8 --pp 1,4 --replicas 1,2 --format json"
    data = json.loads(ask(capsys, f"compare-hardware {options}")[1])
    splits = {row["split"]: row for row in data["ranked"]}
    assert {"TP 2", "TP 2 × PP 4", "TP 8 × 2 replicas"} <= set(splits)
    for row in splits.values():
        assert row["tokens_per_s_per_device"] * row["devices"] == pytest.approx(row["tokens_per_s"])
    assert splits["TP 2 × PP 4"]["devices"] == 8
