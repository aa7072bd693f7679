"""The rule: no alarm for an unchanged tree, an alarm for one that is 10 % slower, and what must not move it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.speedgate.benchmarks import BENCHMARKS
from tools.speedgate.decision import THRESHOLD, Ratios, decide, ratios
from tools.speedgate.recorded import alarms, machines

MACHINES = machines()
CASES = [(machine, benchmark) for machine in MACHINES for benchmark in BENCHMARKS]
LUCKY = (1 / 1.2, 1.2)  # of a base whose benchmark, or whose reference, was a fifth too fast in one run
positive = st.floats(0.01, 100.0)
times = st.integers(1, 10**9)
runs = st.lists(st.tuples(st.builds(Ratios, positive, positive), st.builds(Ratios, positive, positive)), min_size=1)


def test_every_benchmark_is_recorded_in_enough_processes_of_several_machines() -> None:
    assert len(MACHINES) >= 2
    for recorded in MACHINES.values():
        assert set(recorded) == set(BENCHMARKS)
        assert all(len(pairs) >= 11 for pairs in recorded.values())


@pytest.mark.parametrize(("machine", "timed"), CASES)
def test_an_unchanged_tree_gives_no_alarm_in_1000_repetitions(machine: str, timed: str) -> None:
    pairs = MACHINES[machine][timed]
    assert alarms(pairs, 1000, slowed=1.0) == 0
    assert [alarms(pairs, 300, slowed=1.0, lucky=lucky) for lucky in LUCKY] == [0, 0]


@pytest.mark.parametrize(("machine", "timed"), CASES)
def test_a_tree_that_is_ten_per_cent_slower_is_caught_99_times_of_100(machine: str, timed: str) -> None:
    pairs = MACHINES[machine][timed]
    assert alarms(pairs, 1000, slowed=1.10) >= 990
    assert all(alarms(pairs, 1000, slowed=1.10, lucky=lucky) >= 990 for lucky in LUCKY)


def test_the_recordings_are_noisy_enough_to_mean_something() -> None:
    """One run alone would raise alarms: it is the rule that holds them back, not a recording without noise."""
    for recorded in MACHINES.values():
        single = [abs(new.low / old.low - 1) for pairs in recorded.values() for old, new in pairs]
        assert max(single) > 0.03
    assert alarms(MACHINES["amd-epyc-32-mib"]["decode step"], 500, slowed=1.05) < 500


@given(st.lists(times, min_size=20, max_size=99), st.lists(times, min_size=20, max_size=99), st.data())
def test_one_lucky_round_moves_neither_statistic_much(
    reference_ns: list[int], timed_ns: list[int], data: st.DataObject
) -> None:
    """However fast it was: each stays between the values of its neighbours in rank."""
    size = min(len(reference_ns), len(timed_ns))
    reference_ns, timed_ns = reference_ns[:size], timed_ns[:size]
    lucky = list(timed_ns)
    lucky[data.draw(st.integers(0, size - 1))] = 1
    ranked, place = sorted(timed_ns), size * 10 // 100
    before, after = ratios(reference_ns, timed_ns).low, ratios(reference_ns, lucky).low
    assert ranked[place - 1] / ranked[place] * before <= after * (1 + 1e-9)
    assert after <= before * (1 + 1e-9)


def test_a_minimum_that_was_lucky_in_the_base_hides_no_slowdown() -> None:
    """A round of a reference that took half the time made every later candidate look fast by the minimum."""
    reference, base = [1000 + i % 7 for i in range(100)], [1500 + i % 11 for i in range(100)]
    lucky = [500, *reference[1:]]
    slow = [round(1.1 * time) for time in base]
    decision = decide([ratios(lucky, base)] * 3, [ratios(reference, slow)] * 3)
    assert decision.fails
    assert decision.slower_low == pytest.approx(0.1, abs=0.01)


def test_one_run_that_was_wrong_as_a_whole_calls_for_more_and_is_outvoted() -> None:
    base, slow = Ratios(1.5, 1.5), Ratios(1.65, 1.65)
    wrong = Ratios(1.6, 1.76)  # median +3 %, low -6 %
    first = decide([base, wrong, base], [slow] * 3)
    assert (first.fails, first.unclear) == (False, True)
    assert decide([base, wrong, base, *[base] * 3], [slow] * 6).fails
    same = decide([base, Ratios(1.2, 1.2), base], [base] * 3)
    assert (same.fails, same.unclear) == (False, False)


@given(runs)
def test_a_tree_against_itself_never_fails(pairs: list[tuple[Ratios, Ratios]]) -> None:
    base = [old for old, _ in pairs]
    assert decide(base, base) == (0.0, 0.0, False, False)


@given(runs, st.floats(1.0, 3.0))
def test_a_slower_candidate_fails_no_less(pairs: list[tuple[Ratios, Ratios]], factor: float) -> None:
    base, candidate = [old for old, _ in pairs], [new for _, new in pairs]
    slower = [Ratios(new.median * factor, new.low * factor) for new in candidate]
    before, after = decide(base, candidate), decide(base, slower)
    assert after.fails >= before.fails
    assert (after.fails or after.unclear) >= (before.fails or before.unclear)


@given(runs, st.integers(0, 2))
def test_one_good_run_or_statistic_of_three_is_enough_to_ask_for_more(
    pairs: list[tuple[Ratios, Ratios]], which: int
) -> None:
    base = [old for old, _ in pairs[:3]]
    candidate = [Ratios(2 * old.median, 2 * old.low) for old in base]
    assert decide(base, candidate).fails
    good = base[0] if which == 0 else candidate[0]._replace(**{Ratios._fields[which - 1]: base[0][which - 1]})
    assert not decide(base, [good, *candidate[1:]]).fails


def test_the_threshold_itself_passes() -> None:
    assert not decide([Ratios(1.0, 1.0)], [Ratios(1.5, 1.5)], threshold=0.5).fails
    assert decide([Ratios(1.0, 1.0)], [Ratios(1.51, 1.51)], threshold=0.5).fails
    assert THRESHOLD < 0.05


@given(st.lists(st.tuples(times, times), min_size=1, max_size=9), st.integers(2, 1000))
def test_ratios_do_not_depend_on_the_clock_of_the_machine(rounds: list[tuple[int, int]], factor: int) -> None:
    reference, benchmark = ([pair[side] for pair in rounds] for side in (0, 1))
    slow = ratios([factor * time for time in reference], [factor * time for time in benchmark])
    assert slow == pytest.approx(ratios(reference, benchmark))


def test_rounds_and_runs_come_in_pairs() -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        ratios([1, 2], [1])
    with pytest.raises(ValueError, match=r"zip\(\)"):
        decide([Ratios(1.0, 1.0)] * 2, [Ratios(1.0, 1.0)])
