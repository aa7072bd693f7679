"""`llamalab plan`: the ranking as a table and as JSON, and what it refuses."""

import json

import pytest

from llamalab.cli import main

PLAN = ["plan", "--model", "70b", "--memory", "80GB", "--devices", "8"]


def test_the_first_holds_the_goals_and_all_others_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "--slo", "ttft=0.5,tpot=0.03", "--format", "json"]) == 0
    first, *others = json.loads(capsys.readouterr().out)["splits"]
    assert first["ttft_s"] <= 0.5
    assert first["tpot_s"] <= 0.03
    assert all(row["why"] for row in others)


def test_goals_that_nothing_holds_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "--slo", "ttft=0.001"]) == 0
    assert "no split holds the goals" in capsys.readouterr().out


def test_a_slower_link_makes_sending_longer(capsys: pytest.CaptureFixture[str]) -> None:
    shares = []
    for link in ("nvlink4", "pcie4"):
        assert main([*PLAN, "--link", link, "--format", "json"]) == 0
        rows = json.loads(capsys.readouterr().out)["splits"]
        shares.append(next(row["communication_share"] for row in rows if row["split"] == "TP 8"))
    assert shares[1] > shares[0]


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (["--slo", "ttft"], "--slo must be", 2), (["--link", "carrier"], "link must be one of", 2),
        (["--devices", "1"], "must fit", 3),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_sentence(
    more: list[str], said: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PLAN, *more]) == code
    assert said in capsys.readouterr().err
