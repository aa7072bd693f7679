"""`llamalab score`: groups, all and points, in the order of the file."""

import csv
from pathlib import Path

import pytest

from llamalab.comparison.measured_runs import COLUMNS
from tests.cli.calls import Capture, loaded, printed, refused

POINTS = Path(__file__).parent.parent.parent / "experiments" / "points.csv"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    rows = (
        ("h200-141gb-sxm", "1", "vllm", "7b", "fp8", "8", "1024", "128", "tpot_ms", "5.0"),
        ("h999", "1", "vllm", "7b", "fp8", "8", "1024", "128", "tpot_ms", "5.0"),
        ("rtx4090-24gb", "1", "llama.cpp b3000", "7b", "q4_0", "1", "512", "128", "decode_tok_s", "150"),
    )
    with open(path, "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows((COLUMNS, *rows))
    return path


def test_json_has_groups_all_and_points_in_order(capsys: Capture, file: Path) -> None:
    data = loaded(capsys, "score", str(file))
    assert [bool(point["reason"]) for point in data["points"]] == [False, True, False]
    assert data["points"][1] | {"reason": ""} == {"predicted": None, "error": None, "reason": ""}
    assert data["all"]["n"] == 2
    assert [reason["rows"] for reason in data["not_predicted"]] == [1]
    assert {"stack", "device", "phase", "width", "n", "mape", "bias", "p90", "coverage", "under_bound"} <= set(
        data["groups"][0]
    )
    first, _, last = data["points"]
    assert first["error"] == pytest.approx(100 * (first["predicted"] / 5.0 - 1))
    assert last["error"] == pytest.approx(100 * (150 / last["predicted"] - 1))  # of the time, not of the rate
    assert last["low"] < last["predicted"] < last["high"] <= last["bound"]  # a bound of throughput lies above


def test_a_stack_can_be_forced(capsys: Capture, file: Path) -> None:
    data = loaded(capsys, "score", str(file), "--stack", "tensorrt-llm")
    assert {group["stack"] for group in data["groups"]} == {"tensorrt-llm"}


def test_the_table_tells_how_many_and_why_not(capsys: Capture, file: Path) -> None:
    text = printed(capsys, "score", str(file))
    assert text.startswith("3 rows: 2 predicted, 1 not\n")
    assert "h999" in text


def test_what_is_no_file_of_runs_is_refused(capsys: Capture, tmp_path: Path) -> None:
    assert "must exist" in refused(capsys, "score", str(tmp_path / "no.csv"), code=3)
    (tmp_path / "bad.csv").write_text("x\n")
    assert "must have the columns" in refused(capsys, "score", str(tmp_path / "bad.csv"))
    assert "--stack" in refused(capsys, "score", str(tmp_path / "bad.csv"), "--stack", "ollama")
