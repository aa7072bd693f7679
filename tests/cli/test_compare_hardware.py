"""llamalab compare-hardware: devices and splits in order, and what no device holds."""

import json

import pytest

from tests.cli.calls import asked


@pytest.mark.parametrize(
    ("order", "key", "sign"),
    [("latency", "total_s", 1), ("throughput", "tokens_per_s", -1), ("efficiency", "tokens_per_s_per_device", -1)],
)
def test_devices_and_their_counts_are_ranked(
    capsys: pytest.CaptureFixture[str], order: str, key: str, sign: int
) -> None:
    command = f"compare-hardware --model 70b --prompt 2048 --generate 256 --by {order} --format json"
    code, out, _ = asked(capsys, command)
    data = json.loads(out)
    values = [sign * row[key] for row in data["ranked"]]
    assert code == 0
    assert values == sorted(values)
    assert {row["tensor_parallel"] for row in data["ranked"]} >= {2, 4, 8}
    unfit = {(row["hardware"], row["tensor_parallel"]) for row in data["not_ranked"]}
    assert ("h100-80gb-sxm", 1) in unfit
    assert all(row["reason"] for row in data["not_ranked"])


def test_nothing_to_rank_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = asked(capsys, "compare-hardware --model 70b --hardware l4-24gb --tensor-parallel 1")
    assert code == 3
    assert "too much" in err


def test_splits_are_ranked_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--model 70b --hardware h100-80gb-sxm --batch 8 --tp 2,8 --pp 1,4 --replicas 1,2 --format json"
    data = json.loads(asked(capsys, f"compare-hardware {options}")[1])
    splits = {row["split"]: row for row in data["ranked"]}
    assert {"TP 2", "TP 2 × PP 4", "TP 8 × 2 replicas"} <= set(splits)
    for row in splits.values():
        assert row["tokens_per_s_per_device"] * row["devices"] == pytest.approx(row["tokens_per_s"])
    assert splits["TP 2 × PP 4"]["devices"] == 8
