"""The rule: no alarm for an unchanged tree, an alarm for one that is 10 % slower, and what must not move it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.speedgate.decision import THRESHOLD, Ratios, decide, ratios
from tools.speedgate.recorded import alarms, recorded_pairs
from tools.speedgate.subjects import SUBJECTS

RECORDED = recorded_pairs()
positive = st.floats(0.01, 100.0)
times = st.integers(1, 10**9)
runs = st.lists(st.tuples(st.builds(Ratios, positive, positive), st.builds(Ratios, positive, positive)), min_size=1)


def test_every_subject_is_recorded_in_enough_processes() -> None:
    assert set(RECORDED) == set(SUBJECTS)
    assert all(len(pairs) >= 20 for pairs in RECORDED.values())


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_unchanged_tree_gives_no_alarm_in_100_repetitions(subject: str) -> None:
    assert alarms(RECORDED[subject], 100, slowed=1.0, threshold=THRESHOLD) == 0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_tree_that_is_ten_per_cent_slower_is_caught_every_time(subject: str) -> None:
    assert alarms(RECORDED[subject], 100, slowed=1.10, threshold=THRESHOLD) == 100


def test_the_recording_is_noisy_enough_to_mean_something() -> None:
    """One run alone would raise alarms: it is the rule that holds them back, not a recording without noise."""
    single = [new.shortest / old.shortest - 1 for pairs in RECORDED.values() for old, new in pairs]
    assert max(single) > 0.03
    assert alarms(RECORDED["decode step"], 500, slowed=1.05, threshold=THRESHOLD) < 500


@given(runs)
def test_a_tree_against_itself_never_fails(pairs: list[tuple[Ratios, Ratios]]) -> None:
    base = [old for old, _ in pairs]
    assert decide(base, base) == (0.0, 0.0, False)


@given(runs, st.floats(1.0, 3.0))
def test_a_slower_candidate_fails_no_less(pairs: list[tuple[Ratios, Ratios]], factor: float) -> None:
    base, candidate = [old for old, _ in pairs], [new for _, new in pairs]
    slower = [Ratios(new.median * factor, new.shortest * factor) for new in candidate]
    assert decide(base, slower).fails >= decide(base, candidate).fails


@given(runs, st.integers(0, 2))
def test_one_good_run_or_statistic_is_enough_to_pass(pairs: list[tuple[Ratios, Ratios]], which: int) -> None:
    base = [old for old, _ in pairs]
    candidate = [Ratios(2 * old.median, 2 * old.shortest) for old in base]
    assert decide(base, candidate).fails
    good = base[0] if which == 0 else candidate[0]._replace(**{Ratios._fields[which - 1]: base[0][which - 1]})
    assert not decide(base, [good, *candidate[1:]]).fails


def test_the_threshold_itself_passes() -> None:
    assert not decide([Ratios(1.0, 1.0)], [Ratios(1.5, 1.5)], threshold=0.5).fails
    assert decide([Ratios(1.0, 1.0)], [Ratios(1.51, 1.51)], threshold=0.5).fails


@given(st.lists(st.tuples(times, times), min_size=1, max_size=9), st.integers(2, 1000))
def test_ratios_do_not_depend_on_the_clock_of_the_machine(rounds: list[tuple[int, int]], factor: int) -> None:
    reference, subject = ([pair[side] for pair in rounds] for side in (0, 1))
    slow = ratios([factor * time for time in reference], [factor * time for time in subject])
    assert slow == pytest.approx(ratios(reference, subject))


def test_rounds_and_runs_come_in_pairs() -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        ratios([1, 2], [1])
    with pytest.raises(ValueError, match=r"zip\(\)"):
        decide([Ratios(1.0, 1.0)] * 2, [Ratios(1.0, 1.0)])
