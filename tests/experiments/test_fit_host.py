"""The host's two constants: found again from the points, and from none that is scored."""

import json

import pytest

from experiments import fit_host
from experiments.accuracy import read_points
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.shipped_constants import SHIPPED_HOST


def test_the_shipped_host_is_what_the_points_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit_host.main() == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["request_s"], result["sequence_s"]) == pytest.approx(SHIPPED_HOST[:2], rel=0.02)
    assert len(result["points"]) == 13


def test_no_point_is_both_fitted_and_scored() -> None:
    fitted, scored = fit_host.fitting_points(), [point for point in read_points() if point.scored]
    assert not {point.id for point in fitted} & {point.id for point in scored}
    # Not even the same measurement under another name: neither a release nor a value of a configuration recurs.
    assert not {point.revision for point in fitted} & {point.revision for point in scored}
    values = {(p.spec.name, p.model, p.work, p.quantity, p.value) for p in scored}
    assert not {(p.spec.name, p.model, p.work, p.quantity, p.value) for p in fitted} & values


def test_release_0_8_repeats_what_is_scored_and_is_not_fitted_on() -> None:
    points = read_points()
    scored = {(p.spec.name, p.model, p.work, p.quantity): p.value for p in points if p.scored}
    older = [p for p in points if "(v0.8.0)" in p.revision]
    ratios = [p.value / scored[key] for p in older if (key := (p.spec.name, p.model, p.work, p.quantity)) in scored]
    assert len(ratios) >= 20
    assert sum(abs(ratio - 1) < 0.03 for ratio in ratios) > 0.8 * len(ratios)
    assert not {p.id for p in older} & {p.id for p in fit_host.fitting_points()}


def test_a_host_that_made_the_times_is_found() -> None:
    points = fit_host.fitting_points()
    true = Host(1.5e-3, 2e-5)
    made = [
        point._replace(quantity="prefill_ms", value=1e3 * fit_host._s(point._replace(quantity="prefill_ms"), true))
        for point in points
    ]
    found, error = fit_host.fit(made)
    assert found == pytest.approx(true, rel=1e-3)
    assert error < 1e-5
