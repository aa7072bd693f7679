"""The fit of stacks: it finds constants that made the points, and weighs sources by what they say of themselves."""

import json
import math

import numpy as np
import pytest

from experiments import fit_stacks
from experiments.common import stack_fit, stack_pull, stack_spreads
from llamalab.analytic.stack_constants import stack_constants
from llamalab.analytic.stacks import stacks
from llamalab.comparison.measured_runs import MeasuredPoint, measured_point, read_rows
from llamalab.comparison.scoring import predicted_of

ROWS = read_rows(str(fit_stacks.POINTS))


def made_by(cells: dict[str, float], noise: float = 0.0) -> list[MeasuredPoint]:
    """Decode points of vLLM, of models of three sizes, whose values are those that a stack with other cells gives."""
    stack, made = stacks()["vllm/nvidia"]._replace(**cells), []
    for number, (batch, prompt) in enumerate([(1, 128), (4, 512), (16, 1024), (64, 128), (1, 2048), (32, 256)]):
        row = dict.fromkeys(ROWS[0], "") | {
            "device": "h100-80gb-sxm", "n_gpus": "1", "framework": "vllm", "dtype": "bf16",
            "model": ("7b", "13b", "34b")[number % 3],
            "batch": str(batch), "prompt": str(prompt), "generate": "64", "metric": "decode_ms", "value": "1",
        }  # fmt: skip
        point = measured_point(row)
        seconds = predicted_of(point, stack_constants(stack, point.spec, "bf16"))
        made.append(measured_point(row | {"value": repr(1e3 * seconds * (1 + noise * (-1) ** number))}))
    return made


def test_constants_that_made_the_points_are_found() -> None:
    made = {"gemm_memory": 0.7, "step_s": 2e-3}
    start = {"gemm_memory": 0.85, "step_s": 1e-3}
    fitted = stack_fit.fit(made_by(made) * 8, stacks()["vllm/nvidia"], start, 0.5)
    assert fitted.gemm_memory == pytest.approx(0.7, rel=0.05)
    assert fitted.step_s == pytest.approx(2e-3, rel=0.15)


def test_what_the_points_do_not_tell_stays_with_the_parent() -> None:
    start = {"gemm_memory": 0.7, "link_s": 7e-6, "packed_memory": 0.6}
    fitted = stack_fit.fit(made_by({"gemm_memory": 0.7}), stacks()["vllm/nvidia"], start, 0.5)
    assert (fitted.link_s, fitted.packed_memory) == (pytest.approx(7e-6), pytest.approx(0.6))


def test_shares_of_one_kind_go_the_same_way_from_the_parent() -> None:
    """Points in 16 bits alone tell of packed weights too; what is no share of memory stays."""
    start = {"gemm_memory": 0.85, "packed_memory": 0.8, "gemm_compute": 0.7}
    fitted = stack_fit.fit(made_by({"gemm_memory": 0.6}) * 8, stacks()["vllm/nvidia"], start, 0.5)
    assert fitted.gemm_memory == pytest.approx(0.6, rel=0.08)
    assert 0.6 < fitted.packed_memory < 0.72


def test_a_row_starts_at_values_of_other_rows() -> None:
    rows = {
        "any/any": {"packed_compute": 0.5, "gemm_memory": 0.9, "packed_memory": 0.8, "spread": {}, "unseen_spread": {}},
        "server/nvidia": {"parent": "any/any", "gemm_memory": 0.8},
        "server/amd": {"parent": "server/nvidia", "gemm_memory": 0.6},
        "small/nvidia": {"parent": "any/any", "packed_compute": 0.9},
    }
    rows["any/any"] = dict.fromkeys(stacks()["any/any"]._fields) | rows["any/any"]
    child = {"key": "small/amd", "parent": "small/nvidia", "free": ["gemm_memory", "packed_memory"]}
    start = fit_stacks._starting_cells(
        child | {"moves_like": "server", "start": {"packed_compute": "small/nvidia"}}, rows
    )
    assert start == {
        "packed_compute": 0.9, "gemm_memory": pytest.approx(0.9 * 0.75), "packed_memory": pytest.approx(0.8 * 0.75),
    }  # fmt: skip


def test_one_wild_point_moves_little() -> None:
    points = made_by({"gemm_memory": 0.7})
    wild = points[0]._replace(value=5 * points[0].value)
    fitted = stack_fit.fit([wild, *points[1:]], stacks()["vllm/nvidia"], {"gemm_memory": 0.8}, 0.5)
    assert fitted.gemm_memory == pytest.approx(0.7, rel=0.1)


@pytest.mark.parametrize(
    ("framework", "device", "source", "weight"),
    [
        ("vllm", "h100-80gb-sxm", "a page", 1.0),
        ("vllm", "h100-80gb-sxm", "a page | prompt not stated", 0.5),
        ("vLLM", "mi300x-192gb", "a page", 0.5),
        ("vLLM", "h100-80gb-sxm", "a page", 1.0),
    ],
)
def test_a_source_that_is_unsure_weighs_half(framework: str, device: str, source: str, weight: float) -> None:
    row = made_by({})[0].row | {"framework": framework, "device": device, "source": source}
    assert stack_fit.weight(measured_point(row)) == weight


def test_nine_of_ten_errors_lie_in_the_spread() -> None:
    points = made_by({}) * 20
    rng = np.random.default_rng(0)
    errors = [float(error) for error in rng.normal(0, 0.2, len(points))]
    spread = stack_spreads.spreads(points, errors)["decode"]
    inside = [abs(error) <= math.log1p(spread) for error in errors]
    assert 0.89 <= sum(inside) / len(inside) <= 0.94


def test_a_row_with_few_points_has_the_interval_of_all_such_rows_too() -> None:
    errors = {"lucky/nvidia": [0.01], "usual/nvidia": [0.2, -0.3, 0.25, 0.1], "many/nvidia": [0.02] * 30}
    widths = stack_spreads.pooled_spreads(errors)
    assert set(widths) == {"lucky/nvidia", "usual/nvidia"}
    assert math.expm1(0.01) < stack_spreads.MIN_SPREAD < widths["lucky/nvidia"] < math.expm1(0.3)
    assert widths["usual/nvidia"] == pytest.approx(math.expm1(0.3), abs=0.001)  # its own is the widest
    assert stack_spreads.pooled_spreads({"many/nvidia": [0.02] * 30}) == {}


def test_every_fitted_point_is_of_the_file_and_every_row_is_used_once() -> None:
    points = fit_stacks.usable(ROWS)
    fitted = sum(stack.points for key, stack in stacks().items() if fit_stacks.key_of_row(key) == key)
    borrowed = [point for point in points if not stacks()[fit_stacks.key_of(point)].points]
    assert {point.stack for point in borrowed} == {"sglang"}
    assert len(points) == fitted + len(borrowed)
    assert all(point.phase != "memory" for point in points)


def row_of(points: list[MeasuredPoint], start: float) -> stack_pull.Row:
    """A row whose one cell starts at the parent's value."""
    return stack_pull.Row("one", dict(enumerate(points)), stacks()["vllm/nvidia"], {"gemm_memory": start})


def test_few_points_that_agree_with_each_other_and_not_with_the_parent_are_held_loosely() -> None:
    row = row_of(made_by({"gemm_memory": 0.5}), 0.9)
    assert stack_pull.Pull([row]).of(row) == min(stack_pull.PULLS)


def test_few_points_that_scatter_about_the_parent_are_held_tightly() -> None:
    row = row_of(made_by({"gemm_memory": 0.8}, noise=0.3), 0.8)
    assert stack_pull.Pull([row]).of(row) == max(stack_pull.PULLS)


def test_many_points_decide_themselves() -> None:
    row = row_of(made_by({"gemm_memory": 0.5}) * 4, 0.9)
    assert len(row.points) >= stack_pull.MANY
    assert stack_pull.Pull([row]).of(row) == stack_pull.USUAL


def test_the_pull_is_chosen_without_what_is_left_out() -> None:
    """Three points far from the parent, three at it: what the first three tell is gone where they are left out."""
    far, near = made_by({"gemm_memory": 0.4})[:3], made_by({"gemm_memory": 0.9}, noise=0.3)[3:]
    row = row_of([*far, *near], 0.9)
    pull = stack_pull.Pull([row])
    assert pull.of(row, lambda point: point in far) == stack_pull.Pull([row_of(near, 0.9)]).of(row_of(near, 0.9))
    residuals = fit_stacks.held_out(row, lambda point: point in far, pull)
    moved = [point._replace(value=3 * point.value) for point in far]
    again = row_of([*moved, *near], 0.9)
    others = fit_stacks.held_out(again, lambda point: point in moved, stack_pull.Pull([again]))
    assert [residuals[i] - others[i] for i in range(3)] == pytest.approx([math.log(3)] * 3)


def test_a_row_of_few_points_is_never_surer_than_the_row_it_is_made_from() -> None:
    rows, few = stacks(), [stack for stack in stacks().values() if 0 < stack.points < stack_spreads.FEW]
    parents = {
        row["key"]: row.get("parent") for row in json.loads(fit_stacks.ROWS.read_text(encoding="utf-8"))["stacks"]
    }
    pairs = [(one, rows[parents[one.key]]) for one in few if parents.get(one.key) and rows[parents[one.key]].points]
    assert {one.key for one, _ in pairs} >= {"llama.cpp/nvidia", "mlc/amd", "gpt-fast/amd"}
    for one, parent in pairs:
        assert all(one.spread[phase] >= parent.spread[phase] for phase in one.spread), one.key
        assert all(one.unseen_spread[phase] >= parent.unseen_spread[phase] for phase in one.spread), one.key
