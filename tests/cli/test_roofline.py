"""llamalab roofline: limits in words and figures, drawn and as rows."""

import json
from pathlib import Path

import pytest

from tests.cli.calls import asked


def test_a_roofline_says_what_limits_and_what_would_move_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(capsys, "roofline --model 7b --hardware h100-80gb-sxm --format json")
    data = json.loads(out)
    assert code == 0
    words = "\n".join(data["words"])
    assert "limited by compute" in words
    assert "narrower weights" in words
    for phase in ("prefill", "decode"):
        assert sum(row["share"] for row in data["ops"] if row["phase"] == phase) == pytest.approx(1)


def test_a_roofline_is_drawn_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = asked(capsys, "roofline")
    assert "ridge at 223" in out  # at the highest clock
    assert "//" in out


def test_a_roofline_is_drawn_as_svg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "roofline.svg"
    assert asked(capsys, f"roofline --svg {path}")[0] == 0
    assert "<svg" in path.read_text()


def test_several_rooflines_are_a_row_each_and_drawn_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(capsys, "roofline --batch 1,64 --format json")
    one, many = json.loads(out)["rows"]
    assert code == 0
    assert one["decode_memory"] > 0.5 > one["decode_compute"]
    assert many["decode_s"] > one["decode_s"]
    assert asked(capsys, "roofline --batch 1,2 --svg out.svg")[0] == 2
