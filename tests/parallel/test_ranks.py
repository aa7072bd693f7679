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
