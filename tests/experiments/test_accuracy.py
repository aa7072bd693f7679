"""The scoreboard: what it counts, and that nothing is fitted on what it is scored on."""

import csv
import json
from pathlib import Path

import pytest

from experiments import accuracy, fit_constants
from experiments.common import published
from llamalab.analytic import constants, shipped_constants

ROOT = Path(accuracy.__file__).parents[1]
POINTS = published.read_points()
SCORED = [point for point in POINTS if point.scored]
KERNEL_SOURCES = ("vidur", "AIConfigurator")


def test_there_are_enough_points_of_every_kind() -> None:
    assert len(SCORED) >= 40
    assert {point.group for point in SCORED} == {"prefill", "decode", "whole run"}
    assert {point.spec.name for point in SCORED} >= {"a100-80gb-sxm", "h100-80gb-sxm"}
    assert {point.model for point in SCORED} == {"7b", "13b", "70b"}
    assert {point.work.tensor_parallel for point in SCORED} == {1, 2, 4, 8}
    assert len({point.id for point in POINTS}) == len(POINTS)


def test_every_point_names_its_source_and_revision() -> None:
    assert all(point.source and point.revision and point.value > 0 for point in POINTS)


def test_constants_are_fitted_on_kernels_and_scored_on_models() -> None:
    # No source is on both sides, and the program that fits reads nothing but kernel tables.
    text = Path(fit_constants.__file__).read_text()
    assert "published" not in text
    assert "import accuracy" not in text
    for point in POINTS:
        assert not any(source.lower() in point.source.lower() for source in KERNEL_SOURCES), point.id
        repository = point.source.split(" ")[0]
        assert all(repository not in source for source in shipped_constants.SOURCES.values())
    for source in shipped_constants.SOURCES.values():
        assert any(name in source for name in KERNEL_SOURCES)
    # A kernel table has no model's prompt, generation or throughput.
    assert not {"prompt", "generate", "tokens_per_s"} & set(fit_constants.PARAMETERS)


def test_the_bars() -> None:
    errors = [published.error(point, published.shipped) for point in SCORED]
    assert published.mape(errors) <= accuracy.BAR_MAPE
    assert all(abs(error) <= accuracy.BAR_WORST for error in errors)


def test_with_what_was_put_apart_after_the_fact_the_mean_still_holds() -> None:
    points = [point for point in POINTS if point.scored or point.group == "first yield"]
    assert len(points) == len(SCORED) + 6
    assert published.mape(published.error(point, published.shipped) for point in points) <= accuracy.BAR_MAPE


def test_nine_of_ten_measurements_lie_in_the_interval() -> None:
    inside = [abs(point.measured_s / point.of(published.shipped(point)) - 1) <= constants.SPREAD for point in SCORED]
    assert sum(inside) >= 0.9 * len(inside)


@pytest.mark.parametrize("point", SCORED, ids=lambda point: point.id)
def test_no_measurement_is_below_the_bound(point: published.Point) -> None:
    assert published.error(point, published.bound) < 0


def test_we_are_nearer_than_the_formulas_of_others() -> None:
    scores = {
        name: published.mape(published.error(point, predictor) for point in SCORED)
        for name, predictor in published.PREDICTORS.items()
    }
    assert min(scores, key=lambda name: scores[name]) == "llamalab, shipped constants"


def test_a_peers_formula_gives_the_peers_own_number() -> None:
    """llm-flops 0.0.1 prints 187.8 ms for a 7B prefill of 2048 on an A100 and 9.58 ms a token at 4096."""
    wanted = ("7b", "a100-80gb-sxm", 2048, "prefill")
    point = next(p for p in SCORED if (p.model, p.spec.name, p.work.prompt, p.group) == wanted)
    times = published.PREDICTORS["llm-flops (formula, 0.5/0.8)"](point)
    assert 1e3 * times.prefill_s == pytest.approx(187.8, rel=0.003)


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["--check"]) == 0, "run make accuracy"
    assert json.loads(capsys.readouterr().out)["points"] == len(SCORED)


def test_a_configuration_counts_once_a_source() -> None:
    with open(published.POINTS, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scored"] == "yes"]
    keys = [
        tuple(row[key] for key in ("source", "device", "model", "tensor_parallel", "weight_dtype", "batch", "prompt",
                                   "generate", "quantity"))
        for row in rows
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
