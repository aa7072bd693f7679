"""A prediction is never below its bound, and names what limits it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.ops import Op, forward_ops
from llamalab.analytic.roofline import Rates, predict, predict_pass, soft_maximum, total_s
from llamalab.presets import PRESETS

POSITIVE = st.floats(1e-3, 1e15)
FRACTION = st.floats(0.01, 1.0)


@given(
    flops=st.integers(0, 10**15),
    moved=st.integers(1, 10**12),
    peak=st.none() | POSITIVE,
    bandwidth=POSITIVE,
    t0_s=st.floats(0, 1),
    efficiencies=st.tuples(FRACTION, FRACTION),
    q=st.floats(1, 64),
)
def test_no_prediction_is_below_its_bound(
    flops: int,
    moved: int,
    peak: float | None,
    bandwidth: float,
    t0_s: float,
    efficiencies: tuple[float, float],
    q: float,
) -> None:
    op = Op("x", "gemm", 1, flops, flops, 0, moved)
    prediction = predict(op, Rates(peak, bandwidth, t0_s, *efficiencies, q))
    assert prediction.time_s >= prediction.bound_s
    assert prediction.bound_s == max(flops / peak if peak else 0.0, moved / bandwidth)


@pytest.mark.parametrize(
    ("flops", "moved", "t0_s", "limit", "bound_s"),
    [(400, 100, 0.0, "compute", 4.0), (100, 400, 0.0, "memory", 4.0), (100, 100, 9.0, "latency", 1.0)],
)
def test_what_limits_an_op(flops: int, moved: int, t0_s: float, limit: str, bound_s: float) -> None:
    prediction = predict(Op("x", "gemm", 1, flops, flops, 0, moved), Rates(100.0, 100.0, t0_s))
    assert (prediction.limit, prediction.bound_s) == (limit, bound_s)


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(1, 64))
def test_the_soft_maximum_lies_between_maximum_and_sum(x: float, y: float, q: float) -> None:
    soft = soft_maximum(x, y, q)
    assert max(x, y) <= soft * (1 + 1e-12)
    assert soft <= (x + y) * (1 + 1e-12)


def test_a_pass_is_timed_op_by_op_and_each_by_its_own_kind() -> None:
    ops = forward_ops(PRESETS["7b"].arch, new_tokens=1, context_tokens=64)
    rates = dict.fromkeys((op.kind for op in ops), Rates(1e12, 1e11))
    rates["gemm"] = Rates(1e12, 1e11, t0_s=1.0)
    predictions = predict_pass(ops, rates)
    gemms = sum(op.count for op in ops if op.kind == "gemm")
    assert gemms == 7 * 32 + 1
    assert gemms <= total_s(ops, predictions) < gemms + 1
