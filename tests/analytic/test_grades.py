"""What a calibration is graded by, sign by sign."""

import pytest

from llamalab.analytic.grades import GRADES, Grade, Signs, grade, read_grade
from llamalab.analytic.roofline import Rates

SOUND = Signs(
    20, 0.05, 0.2, (0.03, -0.06), {"gemm": Rates(1e12, 1e10, 1e-6, 0.8, 0.9, 2.0), "gather": Rates(None, 1e10)}
)


def test_a_quiet_one_is_good() -> None:
    assert grade(SOUND) == Grade("good")
    assert grade(SOUND._replace(load=None)) == Grade("good")


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({"rounds": 7}, "fair", "7 rounds"),
        ({"rounds": 1}, "poor", "1 round"),
        ({"spread": 0.2}, "fair", "passes 20 % above their best round"),
        ({"spread": 0.6}, "poor", "passes 60 % above their best round"),
        ({"load": 0.5}, "fair", "load average 0.5 per processor before it"),
        ({"load": 3.0}, "poor", "load average 3.0 per processor before it"),
        ({"errors": (0.2, -0.2)}, "fair", "checked passes 20 % off on average"),
        ({"errors": (0.01, 0.01, 0.01, -0.4)}, "fair", "a checked pass -40 % off"),
        ({"errors": (0.01, 0.01, 0.01, 0.01, 1.14)}, "poor", "a checked pass +114 % off"),
        ({"errors": ()}, "poor", "checked on no pass"),
        ({"lacking": ("gemm",)}, "poor", "no kernel of gemm"),
        ({"rates": {"gemm": Rates(1e12, 1e10, 0.0, 0.02, 0.9)}}, "poor", "efficiencies at their lower bound in gemm"),
    ],
)
def test_every_sign_counts(change: dict[str, object], name: str, reason: str) -> None:
    found = grade(SOUND._replace(**change))  # type: ignore[arg-type]
    assert (found.name, found.reasons) == (name, (reason,))


def test_of_a_poor_one_only_what_makes_it_poor_is_said() -> None:
    assert grade(SOUND._replace(rounds=3, spread=0.2)) == Grade("poor", ("3 rounds",))


def test_memory_that_a_class_without_products_hardly_uses_is_no_sign() -> None:
    rates = {**SOUND.rates, "elementwise_norm": Rates(None, 1e10, 0.0, 1.0, 0.02)}
    assert grade(SOUND._replace(rates=rates)) == Grade("good")


def test_grades_have_an_order_and_survive_the_file() -> None:
    ranks = [Grade(name) for name in GRADES]
    for low, one in enumerate(ranks):
        assert [one.better_than(other) for other in ranks] == [low > high for high in range(len(ranks))]
        assert read_grade(one.json) == one


@pytest.mark.parametrize("data", [None, 3, [], {}, {"name": "best"}, {"name": None, "reasons": []}])
def test_what_is_no_grade_is_ungraded(data: object) -> None:
    assert read_grade(data) == Grade("ungraded")
