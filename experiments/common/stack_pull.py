"""How strongly rows with few points are held to their parents: one pull, chosen by nested cross-validation.

The rule, stated before the fit that has it: rows of at least MANY points keep USUAL, as their points decide. All others
share one pull of PULLS: that with the least mean |log error| on INNER folds of the rows among them whose parents have
many points, or none. Each fit that leaves something out chooses anew, without what it leaves out, so that no error on a
point left out has seen the point. A row of fewer than LEAST points tells nothing of the pull.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from experiments.common.stack_fit import fit, log_error
from llamalab.analytic.stacks import Stack
from llamalab.comparison.measured_runs import MeasuredPoint

PULLS, USUAL = (0.25, 0.5, 1.0, 2.0), 0.5
MANY, LEAST, INNER = 20, 3, 4

Inner = dict[tuple[str, tuple[int, ...], float], list[float]]


class Row(NamedTuple):
    """A row to fit: its points by their place in all of them, the stack, and the cells that are fitted at their start.

    `fold` and `device` of a point are what a fit may leave out.
    """

    key: str
    points: dict[int, MeasuredPoint]
    stack: Stack
    start: dict[str, float]

    def without(self, left_out: Callable[[MeasuredPoint], bool]) -> "Row":
        """The row less some of its points."""
        return self._replace(points={place: one for place, one in self.points.items() if not left_out(one)})

    def fitted(self, pull: float) -> Stack:
        """The stack with its cells fitted."""
        return fit(list(self.points.values()), self.stack, self.start, pull)


class Pull:
    """The pull of rows with few points, with errors of inner folds that were computed before."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows, self._known = tuple(rows), Inner()

    def of(self, row: Row, left_out: Callable[[MeasuredPoint], bool] = lambda point: False) -> float:
        """The pull that a row takes where some points are left out."""
        return USUAL if len(row.points) >= MANY else self._chosen(left_out)

    def _chosen(self, left_out: Callable[[MeasuredPoint], bool]) -> float:
        rows = [rest for row in self._rows if len((rest := row.without(left_out)).points) >= LEAST]
        if not rows:
            return USUAL
        return min(PULLS, key=lambda pull: fmean(error for row in rows for error in self._errors(row, pull)))

    def _errors(self, row: Row, pull: float) -> list[float]:
        known = (row.key, tuple(row.points), pull)
        if known not in self._known:
            self._known[known] = list(_inner(row, pull))
        return self._known[known]


def _inner(row: Row, pull: float) -> Iterable[float]:
    """|log error| of every point, by a fit without its inner fold."""
    places: Sequence[int] = tuple(row.points)
    for fold in range(INNER):
        out = set(places[fold::INNER])
        rest = row._replace(points={place: one for place, one in row.points.items() if place not in out})
        fitted = rest.fitted(pull)
        yield from (abs(log_error(row.points[place], fitted)) for place in out)
