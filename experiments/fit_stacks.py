"""Fits the few constants per stack that explain the published runs best, and their error on unseen ones.

    python -m experiments.fit_stacks [POINTS.csv] [STACK | STACK/KIND ...]       writes llamalab/analytic/stacks.json

Per row of stacks.json: the cells in `free` are fitted (experiments/common/stack_fit.py), all others are its parent's.
How near they stay to the parent's is chosen in experiments/common/stack_pull.py. Nothing here knows a formula: times
are those of llamalab.comparison.scoring.

Which points are fitted was settled before the first fit, by what their sources say of themselves:
- peak_memory_gb is never fitted, there is no constant in it;
- MI300X rows of vLLM of 2024 (batch 1 slower than 16) have a row of their own and weigh half;
- rows whose source says that the prompt is assumed or that the memory size, the prompt or the length is not stated
  weigh half.

Errors on unseen points: five folds by a hash of the row, and leaving out one device after the other; intervals are made
of them in experiments/common/stack_spreads.py.
"""

import json
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from experiments.common.left_out import POINTS
from experiments.common.stack_fit import TOGETHER, log_error
from experiments.common.stack_pull import MANY, Pull, Row
from experiments.common.stack_spreads import keep, spreads, widen
from llamalab.analytic import stacks
from llamalab.comparison import scoring
from llamalab.comparison.measured_runs import MeasuredPoint, read_rows
from llamalab.errors import LlamaLabError

ROWS = Path(stacks.__file__).with_name("stacks.json")
FOLDS = 5


def key_of_row(key: str) -> str:
    """The row that a key stands for: its own, or the one that it is the same as."""
    rows = stacks.stacks()
    return next(other for other, one in rows.items() if one._replace(name=rows[key].name) == rows[key])


def key_of(point: MeasuredPoint) -> str:
    """The row of stacks.json that a point is predicted with."""
    return key_of_row(stacks.find_stack(point.stack, point.spec).key)


def usable(rows: Sequence[dict[str, str]]) -> list[MeasuredPoint]:
    """The points that can be predicted and fitted."""
    found = []
    for row in rows:
        one = scoring.predict_row(row)
        if one.predicted is not None and one.point is not None and one.point.phase != "memory":
            found.append(one.point)
    return found


def fold_of(point: MeasuredPoint) -> int:
    """The fold that leaves a point out."""
    return zlib.crc32(json.dumps(sorted(point.row.items())).encode()) % FOLDS


def device_of(point: MeasuredPoint) -> str:
    """The device that is left out with a point."""
    return point.spec.name


def held_out(row: Row, label: Callable[[MeasuredPoint], Any], pull: Pull) -> dict[int, float]:
    """Log errors by place of points that the fit did not see, as one label after the other is left out."""
    found: dict[int, float] = {}
    for left_out in sorted({label(point) for point in row.points.values()}, key=str):
        without = row.without(lambda point, own=left_out: label(point) == own)  # type: ignore[misc]
        fitted = without.fitted(pull.of(row, lambda point, own=left_out: label(point) == own))  # type: ignore[misc]
        for place in row.points.keys() - without.points.keys():
            found[place] = log_error(row.points[place], fitted)
    return dict(sorted(found.items()))


def refit(data: dict[str, Any], points: Sequence[MeasuredPoint], only: Sequence[str]) -> list[dict[str, Any]]:
    """Fit all rows that have free cells, those of many points first; what was left out comes back as residuals."""
    own: dict[str, dict[int, MeasuredPoint]] = {}
    for place, point in enumerate(points):
        own.setdefault(key_of(point), {})[place] = point
    rows = [row for row in data["stacks"] if row.get("free") and row["key"] in own]
    many = [row for row in rows if len(own[row["key"]]) >= MANY]
    few = [row for row in rows if row not in many]
    asked = [row for row in rows if not only or {row["key"], row["key"].partition("/")[0]} & set(only)]
    residuals = []
    for row in many:
        residuals += _refit(row, data, own[row["key"]], Pull(())) if row in asked else []
    apart = {row["key"] for row in few}
    pull = Pull(_row(row, data, own[row["key"]]) for row in few if row["parent"] not in apart)
    for row in few:
        residuals += _refit(row, data, own[row["key"]], pull) if row in asked else []
    return residuals


def _row(row: dict[str, Any], data: dict[str, Any], points: dict[int, MeasuredPoint]) -> Row:
    """A row of the file with its points; its cells start at those of its parent as they stand."""
    rows = {one["key"]: one for one in data["stacks"]}
    parent = stacks._stack(row["parent"], rows)
    start = {cell: getattr(parent, cell) for cell in row["free"]} | _starting_cells(row, rows)
    return Row(row["key"], points, stacks._stack(row["key"], rows), start)


def _refit(
    row: dict[str, Any], data: dict[str, Any], points: dict[int, MeasuredPoint], pull: Pull
) -> list[dict[str, Any]]:
    """Fit a row and write its cells; what was left out in turn comes back."""
    one, own, free = _row(row, data, points), list(points.values()), row["free"]
    fitted = one.fitted(held := pull.of(one))
    begun = one._replace(stack=fitted)
    folds, devices = held_out(begun, fold_of, pull), held_out(begun, device_of, pull)
    row |= {cell: float(f"{getattr(fitted, cell):.4g}") for cell in free}
    row["points"], row["error"] = len(own), round(fmean(abs(np.expm1(log_error(p, fitted))) for p in own), 4)
    row["fitted"], row["devices"] = list(free), sorted({point.spec.name for point in own})
    row["sources"] = sorted({point.row["source"].partition(" | ")[0].partition(" id ")[0] for point in own})
    row["pull"], row["spread"] = held, spreads(own, list(folds.values()))
    row["unseen_spread"] = {
        p: max(row["spread"][p], value) for p, value in spreads(own, list(devices.values())).items()
    }
    cv, lodo = (fmean(abs(np.expm1(e)) for e in errors.values()) for errors in (folds, devices))
    print(
        f"{row['key']:24} {len(own):4} points  pull {held:g}  in {row['error']:.1%}  folds {cv:.1%}  "
        f"devices {lodo:.1%}  " + " ".join(f"{cell}={row[cell]:.3g}" for cell in free),
        flush=True,
    )
    return [{"row": points[i].row, "key": row["key"], "fold": folds[i], "device": devices[i]} for i in points]


def _starting_cells(row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Where cells of a row start other than at the parent's values.

    `start` has a value, or the row whose value it is: that of a stack which makes the same product. A row that
    `moves_like` another stack starts its shares of memory at the parent's times the ratio of that stack's two rows.
    """
    found = {
        cell: getattr(stacks._stack(value, rows), cell) if isinstance(value, str) else value
        for cell, value in row.get("start", {}).items()
    }
    if like := row.get("moves_like"):
        here, there = (
            stacks._stack(f"{like}/{key.partition('/')[2]}", rows).gemm_memory for key in (row["key"], row["parent"])
        )
        parent = stacks._stack(row["parent"], rows)
        found |= {cell: getattr(parent, cell) * here / there for cell in row["free"] if cell in TOGETHER[1]}
    return found


def write(data: dict[str, Any]) -> None:
    """stacks.json, a cell a line."""
    ROWS.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    stacks.stacks.cache_clear()


def main(argv: list[str]) -> int:
    """Fit and write; the last line of output is the result as JSON."""
    path = argv.pop(0) if argv and argv[0].endswith(".csv") else str(POINTS)
    data = json.loads(ROWS.read_text(encoding="utf-8"))
    points = usable(read_rows(path))
    residuals = refit(data, points, argv)
    keep(residuals, read_rows(path))
    widen(data)
    write(data)
    result = {"points": len(points), "rows": len(data["stacks"])}
    for how in ("fold", "device"):
        if residuals:
            result[f"{how}_mape"] = round(fmean(abs(np.expm1(one[how])) for one in residuals), 4)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LlamaLabError as error:
        sys.exit(str(error))
