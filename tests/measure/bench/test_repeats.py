"""Repetitions that disagree are repeated within a budget, on a clock that only they move."""

import pytest

from llamalab.measure.bench.repeats import STEADY_SPREAD, repeat_steadily
from llamalab.measure.timing.deadline import Deadline
from tests.measure.fakes import FakeClock


def run(times: list[float], wanted: int, budget_s: float = 1000.0) -> tuple[list[list[float]], list[str], int]:
    clock, left = FakeClock(), iter(times)

    def repetition(number: int) -> list[float]:
        seconds = next(left)
        clock.advance(seconds)
        return [seconds / 4, 3 * seconds / 4]

    found = repeat_steadily(repetition, wanted, Deadline(budget_s, now=lambda: clock.now))
    return found.passes_s, found.reasons, len(times) - len(list(left))


def test_what_agrees_is_run_as_often_as_asked() -> None:
    passes_s, reasons, runs = run([1.0, 1.0 + STEADY_SPREAD, 1.05, 9.0], 3)
    assert (len(passes_s), reasons, runs) == (3, [], 3)
    assert [sum(one) for one in passes_s] == pytest.approx([1.0, 1.15, 1.05])


def test_a_disturbed_repetition_is_run_again_and_said() -> None:
    passes_s, reasons, runs = run([1.0, 3.0, 1.1, 1.05, 9.0], 3)
    assert [sum(one) for one in passes_s] == pytest.approx([1.0, 1.1, 1.05])
    assert (runs, reasons) == (4, ["repetitions up to 200 % apart; steady after 1 more, the slowest left out"])


@pytest.mark.parametrize(("budget_s", "runs"), [(0.0, 3), (4.5, 4), (5.0, 5), (1000.0, 12)])
def test_what_stays_disturbed_says_so_within_its_budget(budget_s: float, runs: int) -> None:
    times = [1.0 + 0.5 * number for number in range(30)]
    passes_s, reasons, ran = run(times, 3, budget_s)
    assert ran == runs
    assert len(passes_s) == 3
    assert reasons == [f"repetitions up to 100 % apart{f' after {runs - 3} more' if runs > 3 else ''}"]


def test_one_repetition_agrees_with_itself() -> None:
    assert run([5.0, 1.0], 1)[1:] == ([], 1)


def test_the_budget_begins_after_the_repetitions_that_were_asked_for() -> None:
    def grown(number: int) -> list[float]:
        return [100.0, 300.0, 100.0][number : number + 1]

    assert repeat_steadily(grown, 2, Deadline(300.0, now=lambda: 0.0)).passes_s == [[100.0], [100.0]]
