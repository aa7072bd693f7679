"""The published runs with their predictions, and the errors of fits that did not see them.

experiments/fit_stacks.py writes those errors to experiments/held_out.csv, by the place of a run in
experiments/points.csv.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.common.published import mape
from llamalab.comparison import scoring
from llamalab.comparison.measured_runs import read_rows
from llamalab.comparison.scoring import Scored

HERE = Path(__file__).parents[1]
POINTS, HELD_OUT = HERE / "points.csv", HERE / "held_out.csv"


class Unseen(NamedTuple):
    """A point with the log errors of fits that did not see it: its fold, or its device."""

    one: Scored
    key: str
    fold: float
    device: float

    @property
    def phase(self) -> str:
        """prefill, decode or run; a server's decode is decode."""
        assert self.one.point is not None
        return "decode" if self.one.point.phase == "serving" else self.one.point.phase


def scored_points() -> list[Scored]:
    """Every row of the file, predicted or not."""
    return [scoring.predict_row(row) for row in read_rows(str(POINTS))]


def unseen(scored: Sequence[Scored]) -> list[Unseen]:
    """What the fits did not see."""
    with open(HELD_OUT, encoding="utf-8", newline="") as file:
        return [
            Unseen(
                scored[int(row["row"])], row["constants"], float(row["fold_log_error"]), float(row["device_log_error"])
            )
            for row in csv.DictReader(file)
        ]


def mape_percent(log_errors: Iterable[float]) -> float:
    """Mean absolute relative error in per cent, of errors as logarithms of ratios."""
    return 100 * mape(map(math.expm1, log_errors))
