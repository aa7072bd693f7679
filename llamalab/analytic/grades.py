"""The grade of a calibration, with its reasons: from its conditions and its errors.

    poor   a limit in POOR's column is exceeded: results based on it state so
    fair   a limit in FAIR's column is exceeded
    good   none is

A file without a grade is ungraded: below fair, since it was not judged, and above poor.
"""

from collections.abc import Iterable, Mapping

from llamalab.analytic.roofline import Rates
from llamalab.startup.hints import Any, NamedTuple

GRADES = ("poor", "ungraded", "fair", "good")  # the worst first
_AT_BOUND = 0.021  # an efficiency that the fit left at its lower bound, 0.02


class Grade(NamedTuple):
    """One of GRADES, and the reasons against a better one.

    >>> Grade("fair").better_than(Grade("ungraded")), Grade("poor", ("3 rounds",)).words
    (True, 'poor: 3 rounds')
    """

    name: str
    reasons: tuple[str, ...] = ()

    def better_than(self, other: "Grade") -> bool:
        """Whether it stands above the other in GRADES."""
        return GRADES.index(self.name) > GRADES.index(other.name)

    @property
    def words(self) -> str:
        """The grade with its reasons."""
        return f"{self.name}: {'; '.join(self.reasons)}" if self.reasons else self.name

    @property
    def json(self) -> dict[str, Any]:
        """Plain data that `read_grade` takes."""
        return {"name": self.name, "reasons": list(self.reasons)}


class Signs(NamedTuple):
    """The criteria of a grade.

    `rounds` is how often every pass ran; `spread` the median over passes of their median time over their best, less 1;
    `load` the machine's load average before it began, per processor; `errors` the relative errors of the checked
    passes; `lacking` the classes without constants.
    """

    rounds: int
    spread: float
    load: float | None
    errors: tuple[float, ...]
    rates: Mapping[str, Rates]
    lacking: tuple[str, ...] = ()


class GradeLimit(NamedTuple):
    """The value of a criterion from which a calibration is fair, and from which poor."""

    fair: float
    poor: float


# Quiet machines: 12 to 47 rounds, 2 to 10 % between rounds, checks within 10 %. Under two busy neighbours on two cores:
# 3 rounds, checks from 33 to 114 % off. One busy neighbour of two cores is a load of 0.5 per processor.
_SPREAD, LOAD, MEAN_ERROR, WORST_ERROR = (
    GradeLimit(0.15, 0.5),
    GradeLimit(0.4, 1.2),
    GradeLimit(0.15, 0.35),
    GradeLimit(0.3, 0.8),
)
FEW_ROUNDS = GradeLimit(8, 4)  # fewer than these


def grade(signs: Signs) -> Grade:
    """The grade of a calibration.

    >>> rates = {"gemm": Rates(1e12, 1e10, 1e-6, 0.8, 0.9, 2.0)}
    >>> grade(Signs(20, 0.05, 0.2, (0.03, -0.06), rates))
    Grade(name='good', reasons=())
    >>> grade(Signs(3, 0.05, 0.2, (0.03, 1.14), rates)).words
    'poor: 3 rounds; checked passes 58 % off on average; a checked pass +114 % off'
    """
    found = list(_findings(signs))
    for name in ("poor", "fair"):
        if reasons := tuple(reason for level, reason in found if level == name):
            return Grade(name, reasons)
    return Grade("good")


def read_grade(data: Any) -> Grade:
    """The grade of a calibration's file; ungraded where it has none that is valid.

    >>> read_grade(Grade("poor", ("3 rounds",)).json) == Grade("poor", ("3 rounds",)), read_grade(None).name
    (True, 'ungraded')
    """
    if not isinstance(data, Mapping) or data.get("name") not in GRADES:
        return Grade("ungraded")
    reasons = data.get("reasons")
    return Grade(data["name"], tuple(map(str, reasons)) if isinstance(reasons, list) else ())


def _findings(signs: Signs) -> Iterable[tuple[str, str]]:
    """(fair or poor, the reason) of every criterion that is not good."""
    rounds, errors = signs.rounds, [abs(error) for error in signs.errors]
    if rounds < FEW_ROUNDS.fair:
        yield "poor" if rounds < FEW_ROUNDS.poor else "fair", f"{rounds} round{'s' if rounds != 1 else ''}"
    if level := _level(signs.spread, _SPREAD):
        yield level, f"passes {100 * signs.spread:.0f} % above their best round"
    if signs.load is not None and (level := _level(signs.load, LOAD)):
        yield level, f"load average {signs.load:.1f} per processor before it"
    if not errors:
        yield "poor", "checked on no pass"
    else:
        worst = max(signs.errors, key=abs)
        if level := _level(sum(errors) / len(errors), MEAN_ERROR):
            yield level, f"checked passes {100 * sum(errors) / len(errors):.0f} % off on average"
        if level := _level(abs(worst), WORST_ERROR):
            yield level, f"a checked pass {100 * worst:+.0f} % off"
    yield from (("poor", reason) for reason in _odd_classes(signs))


def _odd_classes(signs: Signs) -> Iterable[str]:
    """Reasons in the constants themselves: missing classes, and products or attention at the fit's lower bound."""
    if signs.lacking:
        yield f"no kernel of {', '.join(signs.lacking)}"
    heavy = {name: rate for name, rate in signs.rates.items() if rate.peak_flops_per_s}
    if odd := [
        name for name, rate in heavy.items() if min(rate.compute_efficiency, rate.memory_efficiency) <= _AT_BOUND
    ]:
        yield f"efficiencies at their lower bound in {', '.join(odd)}"


def _level(value: float, limit: GradeLimit) -> str | None:
    return "poor" if value > limit.poor else "fair" if value > limit.fair else None
