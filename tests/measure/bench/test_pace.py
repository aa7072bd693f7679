"""The share of a bench that is done is that of its time, as far as it can be predicted."""

import pytest

from llamalab.measure.bench.pace import Pace


class Told:
    """The shares that a pace told, on a clock that is moved by hand."""

    def __init__(self, turns: int = 4) -> None:
        self.s, self.shares = 0.0, [0.0]
        self.pace = Pace(lambda label, done: self.shares.append(done), turns, now=lambda: self.s)

    def left_s(self) -> float:
        """What a reader takes from the share: what was spent, in proportion."""
        return self.s * (1 - self.shares[-1]) / self.shares[-1]


def test_nothing_is_guessed_before_the_roofs_are_known() -> None:
    told = Told()
    told.s = 7.0
    told.pace.before("roof of copy", 0.0)
    assert told.shares[-1] == 0.0


def test_what_is_left_is_the_calibration_and_every_turn_of_every_test() -> None:
    told = Told(turns=4)
    told.s = 5.0
    told.pace.expect([1.0, 3.0], calibration_s=16.0)
    told.pace.before("calibration, round 1", 0.25)
    assert told.left_s() == pytest.approx(12.0 + 4 * 4.0)


def test_predictions_are_held_against_the_tests_that_are_done() -> None:
    told = Told(turns=4)
    told.pace.expect([1.0, 3.0])
    told.s = 10.0
    told.pace.test(0, "warm-up", 0.0)
    assert told.left_s() == pytest.approx(16.0)
    told.s = 18.0  # twice as long as predicted
    told.pace.test(1, "warm-up", 0.0)
    assert told.left_s() == pytest.approx(24.0)


def test_a_test_without_a_prediction_is_an_average_one_and_none_are_equal_parts() -> None:
    told = Told(turns=2)
    told.s = 4.0
    told.pace.expect([1.0, "no roof of copy", 3.0])
    told.pace.test(0, "warm-up", 0.0)
    assert told.left_s() == pytest.approx(2 * 6.0)
    blind = Told()
    blind.pace.expect(["not predicted"] * 4)
    blind.pace.test(2, "warm-up", 0.5)
    assert blind.shares[-1] == 0.625


def test_more_than_was_expected_shrinks_the_share_and_all_done_is_the_whole() -> None:
    told = Told(turns=2)
    told.pace.expect([1.0])
    told.s = 18.0
    told.pace.test(0, "warm-up", 0.0)
    assert told.shares[-1] == pytest.approx(0.9)
    told.s = 28.0
    told.pace.test(0, "repetition 1 of 1", 0.5)
    assert told.left_s() == pytest.approx(10.0)
    told.pace.finish()
    assert told.shares[-1] == 1.0
