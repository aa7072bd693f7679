import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.op import Op
from llamalab.analytic.roofline import SHARP, Rates, predict_op, predict_pass, rates_of_op, soft_maximum, total_s

GEMM = Op("w", "gemm", 3, 400, 400, 0, 40, 5, 5)
positive = st.floats(1e-9, 1e9)


@given(positive, positive, st.floats(1, SHARP))
def test_a_soft_maximum_lies_between_the_maximum_and_the_sum(x: float, y: float, q: float) -> None:
    assert max(x, y) * (1 - 1e-12) <= soft_maximum(x, y, q) <= (x + y) * (1 + 1e-12)


def test_a_soft_maximum_of_nothing_is_nothing() -> None:
    assert soft_maximum(0.0, 0.0, 2.0) == 0.0


@pytest.mark.parametrize(
    ("rates", "time_s", "bound_s", "limit"),
    [
        (Rates(100.0, 100.0, 0.5, 0.5, 1.0, 1.0), 0.5 + 8.0 + 0.5, 4.0, "compute"),
        (Rates(None, 100.0, 0.0, 1.0, 0.25), 2.0, 0.5, "memory"),
        (Rates(1e9, 100.0, 2.0), 2.5, 0.5, "latency"),
    ],
)
def test_time_bound_and_limit(rates: Rates, time_s: float, bound_s: float, limit: str) -> None:
    prediction = predict_op(GEMM, rates)
    assert prediction.time_s == pytest.approx(time_s, rel=1e-6)
    assert (prediction.bound_s, prediction.limit) == (bound_s, limit)


@given(
    st.integers(0, 10**12), st.integers(1, 10**12), positive, st.floats(0, 1), st.floats(0.01, 1), st.floats(0.01, 1),
    st.floats(1, SHARP),
)  # fmt: skip
def test_no_prediction_falls_below_its_bound(
    flops: int, moved: int, rate: float, t0: float, compute: float, memory: float, q: float
) -> None:
    prediction = predict_op(Op("x", "gemm", 1, flops, flops, 0, moved), Rates(rate, rate, t0, compute, memory, q))
    assert prediction.time_s >= prediction.bound_s * (1 - 1e-12)


def test_a_collective_takes_the_time_of_its_link() -> None:
    op = Op("r", "collective", 1, read_bytes=10**9, written_bytes=10**9, link_bytes=50)
    assert predict_op(op, Rates(None, 100.0)).bound_s == 0.5


def test_what_is_read_again_costs_no_memory_time() -> None:
    op = Op("a", "attention", 1, read_bytes=150, written_bytes=50, reread_bytes=100)
    assert predict_op(op, Rates(None, 100.0)).bound_s == 1.0


def test_an_op_takes_the_constants_of_its_class_or_else_of_its_kind() -> None:
    decode = Op("a", "attention", 1, read_bytes=10, mode="decode")
    slow, fast = Rates(None, 1.0), Rates(None, 10.0)
    assert rates_of_op(decode, {"attention": slow, "attention_decode": fast}) is fast
    assert rates_of_op(decode, {"attention": slow}) is slow


def test_a_pass_takes_every_occurrence() -> None:
    ops = (GEMM, Op("n", "elementwise", 2, read_bytes=100))
    predictions = predict_pass(ops, {"gemm": Rates(100.0, 100.0), "elementwise": Rates(None, 100.0)})
    assert total_s(ops, predictions) == pytest.approx(3 * 4.0 + 2 * 1.0)
