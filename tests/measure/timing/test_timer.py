import gc

import pytest

from llamalab.measure.timing import timer
from llamalab.measure.timing.timer import Plan, collector_off, paired_ratio, time_one, time_ratio, time_variants
from tests.measure.fakes import FakeClock


def plan(**changes):
    return Plan(**({"budget_s": 100.0, "least": 3, "most": 3, "warmup": 1, "warmup_s": 0.0} | changes))


def test_samples_are_exactly_what_each_round_took():
    clock, calls = FakeClock(), []

    def work():
        calls.append(None)
        clock.advance(len(calls) / 8)

    assert time_one(work, clock, plan(warmup=2)) == [3 / 8, 4 / 8, 5 / 8]


def test_variants_alternate_their_order_and_keep_their_own_samples():
    clock, order = FakeClock(), []

    def variant(name, seconds):
        def work():
            order.append(name)
            clock.advance(seconds)

        return work

    times = time_variants({"a": variant("a", 1.0), "b": variant("b", 10.0)}, clock, plan())
    assert order[2:] == ["a", "b", "b", "a", "a", "b"]
    assert times == {"a": [1.0] * 3, "b": [10.0] * 3}


def test_what_runs_before_a_sample_is_not_in_it():
    clock = FakeClock()
    samples = time_one(lambda: clock.advance(2.0), clock, plan(), before=lambda: clock.advance(50.0))
    assert samples == [2.0] * 3


@pytest.mark.parametrize(
    ("cost_s", "rounds"),
    [(30.0, 4), (4.0, 25), (0.5, 40), (60.0, 4)],
    ids=["the least although too dear", "as the budget allows", "the most", "one warm-up only"],
)
def test_rounds_follow_the_budget(cost_s, rounds):
    clock = FakeClock()
    samples = time_one(lambda: clock.advance(cost_s), clock, plan(least=4, most=40))
    assert len(samples) == rounds


def test_a_dear_run_is_warmed_up_once_and_a_cheap_one_until_it_is_warm():
    def runs(cost_s):
        clock, count = FakeClock(), []

        def work():
            count.append(None)
            clock.advance(cost_s)

        time_one(work, clock, plan(warmup=2, warmup_s=1.0))
        return len(count) - 3

    assert runs(0.75) == 1
    assert runs(0.5) == 2
    assert runs(0.25) == 4
    assert runs(0.0) == 100


def test_ratio_pairs_the_rounds():
    assert paired_ratio([1.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0], [1.0, 2.0])


def test_collector_comes_back_even_after_an_error():
    assert gc.isenabled()
    inside = []

    def interrupted():
        with collector_off():
            inside.append(gc.isenabled())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert inside == [False]
    assert gc.isenabled()


@pytest.mark.parametrize(("limit_s", "rounds"), [(1000.0, 4), (9.0, 3), (6.9, 2), (5.0, 1), (0.0, 1)])
def test_a_limit_holds_for_warm_up_and_rounds_and_one_run_is_always_a_sample(limit_s: float, rounds: int) -> None:
    clock = FakeClock()
    times = time_variants(
        {name: lambda: clock.advance(1.0) for name in "ab"}, clock, plan(least=4, most=4, warmup=2, limit_s=limit_s)
    )
    assert [len(samples) for samples in times.values()] == [rounds, rounds]
    assert clock.now <= max(limit_s, 2.0)


def test_without_a_warm_up_the_most_rounds_are_run() -> None:
    clock = FakeClock()
    assert len(time_one(lambda: clock.advance(1.0), clock, plan(warmup=0, least=1, most=2))) == 2


class HeldClock(FakeClock):
    """Notes for how long the device was held, and how many marks there were then."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[float, int]] = []

    def hold(self, seconds: float) -> None:
        self.held.append((seconds, len(self._marks)))


def test_the_device_is_held_before_every_sample_for_as_long_as_launching_took(monkeypatch) -> None:
    clock, host = HeldClock(), iter(range(1000))
    monkeypatch.setattr(timer, "now_s", lambda: float(next(host)))  # a second of the host for each launch
    time_one(lambda: clock.advance(0.25), clock, plan(warmup=2))
    assert clock.held == [(1.25, 0), (1.25, 2), (1.25, 4)]  # outside of the marks of a sample


@pytest.mark.parametrize("cold_s", [0.75, 90.0])
def test_a_cold_first_run_is_no_estimate(cold_s: float) -> None:
    clock, costs = FakeClock(), iter([cold_s])
    samples = time_one(lambda: clock.advance(next(costs, 0.5)), clock, plan(budget_s=10.0, warmup=2, most=50))
    assert samples == [0.5] * 20


def test_rounds_after_a_cold_run_stay_within_the_limit() -> None:
    clock, costs = FakeClock(), iter([4.0])
    samples = time_one(lambda: clock.advance(next(costs, 1.0)), clock, plan(most=50, warmup=2, limit_s=10.0))
    assert len(samples) == 6
    assert clock.now == 10.0


def test_a_ratio_of_other_rounds_is_that_of_medians() -> None:
    assert time_ratio([2.0, 8.0, 6.0], [3.0, 2.0, 4.0, 3.0]) == 2.0
    assert time_ratio([1.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0
