"""One process group of two ranks, and what they found: see tests.parallel.checks; tests/machines has four."""

from typing import Any

import pytest

from tests.parallel.on_ranks import CASES, KINDS, results

TOLERANCE = 1e-5  # of logits in fp32


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_one_rank(found: dict[str, Any], case: str) -> None:
    """Prefill, chunk, decode and ragged; with DTensors, with the rank's own tensors, and built in shares."""
    far = found[case]
    assert far["size"] > 0.1
    assert {name: value for name, value in far.items() if name != "size" and not value < TOLERANCE} == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["dtensors", "own shares"])
def test_collectives_are_those_of_the_op_table(found: dict[str, Any], kind: str, way: str) -> None:
    for ran, table in found["collectives"][kind][way]:
        assert ran == table
        assert sum(calls for _, _, calls in ran) == 2 * 2 + 2


def test_any_format_loads_onto_ranks(found: dict[str, Any]) -> None:
    assert len(found["loaded"]) == 6
    assert {name: far for name, far in found["loaded"].items() if not far < TOLERANCE} == {}


@pytest.mark.parametrize("kv_heads", ["8", "1"])
def test_a_whole_view_shows_a_tap_what_one_rank_has_and_takes_its_edits(found: dict[str, Any], kv_heads: str) -> None:
    view = found["views"][kv_heads]
    assert view["points"] > 30
    assert view["same shapes"]
    assert max(view["far"], view["logits"]) < TOLERANCE


@pytest.mark.parametrize("storage", ["int8", "q4_0", "int4"])
def test_quantised_weights_on_ranks_are_those_of_one_rank(found: dict[str, Any], storage: str) -> None:
    made = found["quantised"][storage]
    assert made["layers"] == 2 * 7 + 1
    assert made["far"] < TOLERANCE
    assert made["moved"] > 100 * TOLERANCE  # quantising has moved the logits themselves


@pytest.mark.parametrize("storage", ["None", "int8", "int4"])
def test_passes_of_a_report_are_what_was_asked_and_send_what_the_op_table_says(
    found: dict[str, Any], storage: str
) -> None:
    prefill, decode = (one for one in found["timed"][storage] if one["ranks"] == found["timed"][storage][-1]["ranks"])
    for one in (prefill, decode):
        assert (one["batch"], one["kv_dtype"], one["attention"]) == (2, "bf16", "naive")
        assert one["collectives"] == one["collectives_expected"]
        assert sum(one["collectives"].values()) == 2 * 2 + 2
        assert one["by_rank"] == one["ranks"]
    assert (prefill["phase"], prefill["new_tokens"], prefill["context_tokens"]) == ("prefill", 8, 8)
    assert (decode["phase"], decode["new_tokens"], decode["context_tokens"]) == ("decode", 1, 20)


def test_a_rank_knows_how_far_its_clock_is_ahead_of_the_first_ones(found: dict[str, Any]) -> None:
    one_clock, ahead, behind = found["clocks"]
    assert one_clock == 0.0
    assert (ahead, behind) == pytest.approx((1000.0, -1000.0), abs=10.0)
