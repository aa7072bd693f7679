"""Intervals of stacks: how far off fits are on points that they did not see, kept in experiments/held_out.csv.

The spread of a phase is the 90 % quantile of the held-out |log error|, of folds for devices that are fitted and of
left-out devices for others, at least MIN_SPREAD. Few errors do not tell a quantile: a row of fewer than FEW points
takes its own together with that of all such rows, which weighs as POOL points do, where that is wider, and is never
narrower than the row of points that it takes its other cells from.
"""

import csv
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common.left_out import HELD_OUT
from llamalab.analytic.stacks import SPREAD_PHASES
from llamalab.comparison.measured_runs import MeasuredPoint

MIN_SPREAD, QUANTILE = 0.06, 0.9
FEW, POOL = 8, 3


def spreads(points: Sequence[MeasuredPoint], errors: Sequence[float]) -> dict[str, float]:
    """The half-width by phase that holds 9 of 10 of these errors, as a ratio minus 1; of all where a phase has few."""
    every = [abs(error) for error in errors]
    found = {}
    for phase in SPREAD_PHASES:
        own = [abs(error) for point, error in zip(points, errors, strict=True) if _phase(point) == phase]
        found[phase] = round(max(MIN_SPREAD, float(np.expm1(_quantile(own if len(own) >= FEW else every)))), 3)
    return found


def _phase(point: MeasuredPoint) -> str:
    return "decode" if point.phase == "serving" else point.phase


def _quantile(values: list[float]) -> float:
    """The 90 % quantile as it is expected of points yet unseen: a little above that of few points."""
    share = min(1.0, QUANTILE * (1 + 1 / len(values)))
    return float(np.quantile(values, share))


def pooled_spreads(errors: dict[str, list[float]]) -> dict[str, float]:
    """Half-widths of rows with few points, from what was left out of each: their own with that of all of them."""
    few = {key: [abs(error) for error in own] for key, own in errors.items() if len(own) < FEW}
    if not few:
        return {}
    pool, found = _quantile([error for own in few.values() for error in own]), {}
    for key, own in few.items():
        alone = _quantile(own)
        together = math.sqrt((len(own) * alone**2 + POOL * pool**2) / (len(own) + POOL))
        found[key] = round(max(MIN_SPREAD, math.expm1(max(alone, together))), 3)
    return found


def widen(data: dict[str, Any]) -> None:
    """Give rows with few points their intervals, from all that held_out.csv holds."""
    errors: dict[str, list[float]] = {}
    with open(HELD_OUT, encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            errors.setdefault(line["constants"], []).append(float(line["fold_log_error"]))
    rows = {row["key"]: row for row in data["stacks"]}
    for key, width in pooled_spreads(errors).items():
        row, parent = rows[key], rows.get(rows[key]["parent"], {})
        seen, unseen = (parent[kind] if parent.get("points") else {} for kind in ("spread", "unseen_spread"))
        row["spread"] = {p: max(width, seen.get(p, 0.0)) for p in SPREAD_PHASES}
        row["unseen_spread"] = {
            p: max(row["spread"][p], unseen.get(p, 0.0), row["unseen_spread"][p]) for p in SPREAD_PHASES
        }


def keep(residuals: list[dict[str, Any]], rows: list[dict[str, str]]) -> None:
    """Write what the fits did not see, a line per point by its place in the file; lines of other constants stay."""
    place = {json.dumps(row, sort_keys=True): number for number, row in enumerate(rows)}
    refitted = {one["key"] for one in residuals}
    with open(HELD_OUT, encoding="utf-8", newline="") as file:
        lines = {int(line["row"]): line for line in csv.DictReader(file) if line["constants"] not in refitted}
    for one in residuals:
        number = place[json.dumps(one["row"], sort_keys=True)]
        errors = {f"{how}_log_error": f"{one[how]:.4f}" for how in ("fold", "device")}
        lines[number] = {"row": str(number), "constants": one["key"]} | errors
    with open(HELD_OUT, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("row", "constants", "fold_log_error", "device_log_error"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines[number] for number in sorted(lines))
