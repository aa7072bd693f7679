"""No group of published runs gets worse unseen, and the board tells fitted from unfitted."""

import json
import math

import pytest

from experiments import scoreboard
from experiments.common import left_out
from experiments.fit_stacks import ROWS
from llamalab.analytic import stacks

SCORED = left_out.scored_points()
OUT = left_out.unseen(SCORED)


def test_no_group_is_worse_than_agreed_without_a_reason() -> None:
    assert scoreboard.worsened(scoreboard.groups_of(SCORED), scoreboard.agreed()) == []


def test_every_group_is_agreed_on() -> None:
    assert set(scoreboard.groups_of(SCORED)) == set(scoreboard.agreed())


def test_a_worse_group_is_told_and_accepted_only_with_a_reason(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(scoreboard, "AGREED", tmp_path / "agreed.csv")
    key, other = ("vllm", "h200-141gb-sxm", "serving", "8", "one"), ("vllm", "b200-180gb", "serving", "8", "one")
    scoreboard.accept({key: {"n": 3, "mape": 5.0}, other: {"n": 1, "mape": 2.0}}, "")
    now = {key: {"n": 3, "mape": 6.5}, other: {"n": 1, "mape": 2.9}}
    assert scoreboard.worsened(now, scoreboard.agreed()) == ["vllm h200-141gb-sxm serving 8 one: 6.5 %, agreed 5.0 %"]
    assert scoreboard.worsened({other: now[other]}, scoreboard.agreed())[0].endswith("no longer predicted")
    scoreboard.accept(now, "a faster kernel is modelled")
    assert scoreboard.agreed()[key] == (6.5, "a faster kernel is modelled")
    assert scoreboard.agreed()[other] == (2.9, "")
    assert scoreboard.worsened(now, scoreboard.agreed()) == []


def test_what_was_left_out_covers_what_was_fitted() -> None:
    rows = json.loads(ROWS.read_text(encoding="utf-8"))["stacks"]
    fitted = {row["key"]: row["points"] for row in rows if row.get("points")}
    left_out: dict[str, int] = {}
    for one in OUT:
        left_out[one.key] = left_out.get(one.key, 0) + 1
    assert left_out == fitted


def test_the_interval_holds_about_nine_of_ten_points_that_were_not_fitted() -> None:
    rows = stacks.stacks()
    folds = [abs(one.fold) <= math.log1p(rows[one.key].spread[one.phase]) + 1e-9 for one in OUT]
    devices = [abs(one.device) <= math.log1p(rows[one.key].unseen_spread[one.phase]) + 1e-9 for one in OUT]
    assert 0.85 <= sum(folds) / len(folds) <= 0.96
    assert 0.85 <= sum(devices) / len(devices) <= 0.97


@pytest.mark.parametrize(
    ("stack", "bar"),
    [
        ("tensorrt-llm/nvidia", 8), ("tensorrt-llm-1/nvidia", 8), ("vllm/nvidia", 8), ("vllm-2024/nvidia", 10),
        ("gpt-fast/nvidia", 12), ("transformers/nvidia", 12), ("vllm/amd", 12), ("vllm-2024/amd", 12),
        ("gpt-fast/amd", 12), ("llama.cpp-2024/nvidia", 15), ("llama.cpp/nvidia", 15), ("autoawq/nvidia", 15),
        ("autoawq-ipex/cpu", 20), ("llama.cpp-2023/nvidia", 15), ("exllamav2/nvidia", 15),
        ("tinychat/nvidia", 15), ("mlc/nvidia", 15), ("llama.cpp/apple", 20), ("llama.cpp-2023-08/apple", 20),
        ("llama.cpp/cpu", 20),
    ],
)  # fmt: skip
def test_the_bars_on_points_left_out(stack: str, bar: float) -> None:
    assert left_out.mape_percent(one.fold for one in OUT if one.key == stack) <= bar


@pytest.mark.parametrize("stack", ["tensorrt-llm/nvidia", "tensorrt-llm-1/nvidia", "vllm/nvidia", "vllm-2024/nvidia"])
def test_the_bar_on_devices_left_out(stack: str) -> None:
    assert left_out.mape_percent(one.device for one in OUT if one.key == stack) <= 10
