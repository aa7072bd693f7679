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


@pytest.mark.parametrize(("memory", "limit"), [("24GiB", 24 * 2**30), ("40GB", 40 * 10**9)])
def test_memory_that_is_told_takes_the_place_of_the_data_sheets(
    memory: str, limit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PLAN[:3], "--memory", memory, "--devices", "8", "--format", "json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out)["splits"] if row["needed_bytes"] is not None]
    assert {row["needed_bytes"] <= limit for row in rows if row["tokens_per_s"] is not None} == {True}
    assert {row["needed_bytes"] > limit for row in rows if "too much" in row["why"]} == {True}


def test_where_no_split_fits_the_nearest_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Weights of 70B in bf16 are 137,953,312,768 B: 17.2 GB of them on each of eight."""
    assert main([*PLAN[:3], "--memory", "16GB", "--devices", "8"]) == 3
    error = capsys.readouterr().err
    assert "must fit; none does: TP" in error
    assert error.rstrip().endswith("too much; take more devices, fewer sequences or a narrower --weight-dtype")


def test_a_split_that_sends_no_more_is_told_another_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["plan", "--model", "tinyllama-1.1b", "--hardware", "l4-24gb", "--devices", "8", "--format", "json"]) == 0
    )
    whys = [row["why"] for row in json.loads(capsys.readouterr().out)["splits"]]
    assert not [why for why in whys if "sending takes 0.0%" in why]
    assert any("context ranks all read" in why for why in whys)


def test_goals_far_away_are_told_in_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "--slo", "ttft=0.0001", "--format", "json"]) == 0
    first = json.loads(capsys.readouterr().out)["splits"][0]
    assert f"{first['ttft_s'] / 0.0001:,.0f} times 100.00 µs" in first["why"]


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
