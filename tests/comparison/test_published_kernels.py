"""Rows of a pass beside published kernels: nearest shape, its time, its own prediction, and how far that is off."""

import pytest

from llamalab.analytic.constants import choose
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.comparison.published_kernels import published_beside
from llamalab.hardware import find_hardware
from llamalab.presets import PRESETS

ARCH, WORK = PRESETS["7b"].arch, Workload(2048)
SPEC = find_hardware("h100-80gb-sxm")
RATES = choose(SPEC, "shipped", "bf16").rates


def test_a_shape_that_was_published_is_predicted_as_the_row_itself() -> None:
    ops = pass_ops(ARCH, WORK, 2048, 2048)
    found = {one.op: one for one in published_beside(SPEC.name, ARCH, ops, WORK.shape(2048, 2048), RATES)}
    product = found["layers.*.attention.wo"]
    assert product.published.sizes == (2048, 4096, 4096)
    assert product.predicted_s == product.here_s
    assert product.error == pytest.approx(product.predicted_s / product.published.time_s - 1)
    row = product.row("prefill")
    assert (row["basis"], row["published_shape"]) == ("published", "2048 × 4096 × 4096")
    assert "vidur" in str(row["source"]) or "aiconfigurator" in str(row["source"])


def test_the_large_rows_are_there_and_near_what_was_published() -> None:
    ops = pass_ops(ARCH, WORK, 2048, 2048)
    found = published_beside(SPEC.name, ARCH, ops, WORK.shape(2048, 2048), RATES)
    large = [one for one in found if one.here_s > 50e-6]
    assert len(large) >= 5
    assert all(abs(one.error) < 0.25 for one in large)


def test_a_device_of_which_nothing_is_published_has_rows_with_that_reason() -> None:
    ops = pass_ops(ARCH, WORK, 2048, 2048)
    rows = published_beside("b200-180gb", ARCH, ops, WORK.shape(2048, 2048), RATES)
    assert [row.op for row in rows] == [op.name for op in ops]
    assert {(row.published, row.predicted_s, row.error) for row in rows} == {(None, None, None)}
    assert {row.reason for row in rows if row.shape} == {"no kernel of b200-180gb is published"}
