import pytest

from llamalab.measure.timing.doubling_check import TRIES, check_doubling
from llamalab.measure.timing.timer import Plan
from tests.measure.fakes import FakeClock

PLAN = Plan(budget_s=1e9, least=3, most=3, warmup=1, warmup_s=0.0)


def check(once_s, twice_s):
    """Probes whose calls take what the iterables say, one after the other."""
    clock, once, twice = FakeClock(), iter(once_s), iter(twice_s)
    return check_doubling(lambda: clock.advance(next(once)), lambda: clock.advance(next(twice)), clock, PLAN)


@pytest.mark.parametrize("ratio", [1.8, 2.0, 2.2])
def test_doubled_time_is_trusted_at_once(ratio):
    checked = check([10.0] * 4, [10.0 * ratio] * 4)
    assert (checked.trusted, checked.reason) == (True, None)
    assert checked.ratio == pytest.approx(ratio)
    assert checked.once_s == [10.0] * 3


@pytest.mark.parametrize("ratio", [1.0, 1.79, 2.21, 4.0])
def test_anything_else_is_not(ratio):
    checked = check([10.0] * 4 * TRIES, [10.0 * ratio] * 4 * TRIES)
    assert not checked.trusted
    assert f"{ratio:.2f} times" in checked.reason


def test_a_disturbed_try_is_repeated():
    checked = check([1.0] * 8, [7.0] * 4 + [2.0] * 4)
    assert checked.trusted
    assert checked.ratio == 2.0
    assert checked.twice_s == [7.0] * 3 + [2.0] * 3


def test_a_disturbance_only_adds_time_so_the_best_ones_are_compared():
    checked = check([1.0, 1.0, 9.0, 9.0], [2.0, 8.0, 8.0, 2.0])
    assert checked.trusted
    assert checked.ratio == 2.0


def test_best_time_may_come_from_the_doubled_work():
    assert check([1.0] * 4, [2.0, 2.0, 1.9, 2.0]).unit_s == pytest.approx(0.95)
