"""Differences of counters as a table that a reviewer can read."""

import torch

from tools.speedgate.counters import ROOT, ops_of, python_scope, torch_scope
from tools.speedgate.differences import Counters, differences, text_table, unknown_scopes

REVIEWED: Counters = {
    "everywhere": {"7b": {"parameters": 7_000}, "modules": ["a", "b"]},
    "torch 1.0, z80": {"graphs": 1},
}


def test_equal_counters_have_no_rows() -> None:
    assert differences(REVIEWED, REVIEWED) == []


def test_changed_new_and_lost_counters_are_named() -> None:
    now: Counters = {"everywhere": {"7b": {"parameters": 7_001, "layers": 2}, "modules": ["b", "c"]}}
    rows = differences(REVIEWED, now)
    assert rows == [
        ("7b: parameters", "7,000", "7,001"),
        ("modules: a", "yes", "–"),
        ("7b: layers", "–", "2"),
        ("modules: c", "–", "yes"),
    ]
    assert text_table(("counter", "reviewed", "now"), rows).splitlines()[1] == "7b: parameters     7,000  7,001"


def test_a_version_nobody_reviewed_is_named_and_not_compared() -> None:
    now: Counters = {"torch 9.9, z80": {"graphs": 5}}
    assert differences(REVIEWED, now) == []
    assert unknown_scopes(REVIEWED, now) == ["torch 9.9, z80"]


def test_scopes_name_versions_without_patch_levels() -> None:
    assert python_scope().count(".") == torch_scope().count(".") == 1
    assert (ROOT / "llamalab").is_dir()


def test_an_operation_more_is_seen() -> None:
    one, two = (ops_of(lambda times=times: [torch.ones(2) + 1 for _ in range(times)]) for times in (1, 2))
    assert two["aten.add.Tensor"] - one["aten.add.Tensor"] == 1
