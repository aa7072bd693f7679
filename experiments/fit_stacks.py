"""Fits the few constants per stack that explain the published runs best, and their error on unseen ones.

    python -m experiments.fit_stacks [POINTS.csv] [STACK | STACK/KIND ...]       writes llamalab/analytic/stacks.json

Per row of stacks.json: the cells in `free` are fitted, all others are its parent's. Minimised is a robust loss of
log(predicted / measured) plus the distance from the parent's values in units of SCALES: with few points a row
stays near its parent, and a cell that the points do not tell stays there. Nothing here knows a formula: times
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
import math
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from experiments.common.left_out import POINTS
from experiments.common.stack_spreads import keep, spreads, widen
from llamalab.analytic import stacks
from llamalab.analytic.stack_constants import stack_constants
from llamalab.comparison import scoring
from llamalab.comparison.measured_runs import MeasuredPoint, read_rows
from llamalab.errors import LlamaLabError

ROWS = Path(stacks.__file__).with_name("stacks.json")
FOLDS, ROBUST = 5, 0.06
# How far a cell may plausibly lie from its parent's value, and the limits of what it can mean.
SCALES = {
    "gemm_compute": 0.12,
    "gemm_memory": 0.08,
    "packed_compute": 0.15,
    "packed_memory": 0.12,
    "kernel_s": 3e-6,
    "attention_compute": 0.2,
    "attention_memory": 0.2,
    "decode_memory": 0.15,
    "decode_vector_compute": 0.3,
    "split_gain": 1.0,
    "elementwise_memory": 0.2,
    "unpack_ops": 6.0,
    "k_quant_ops": 0.5,
    "row_bytes_per_clock": 4.0,
    "vector_ops": 15.0,
    "link_s": 1e-5,
    "link_memory": 0.2,
    "hop_s": 2e-5,
    "step_s": 1e-3,
    "sequence_s": 3e-5,
    "request_s": 1e-2,
    "interleave": 0.2,
    "die_bytes_per_s": 1e10,
}
LIMITS = {
    "unpack_ops": (1.0, 100.0),
    "k_quant_ops": (1.0, 4.0),
    "row_bytes_per_clock": (1.0, 64.0),
    "split_gain": (1.0, 20.0),
    "vector_ops": (0.0, 200.0),
    "decode_vector_compute": (1e-3, 1.0),
    "kernel_s": (2e-7, 6e-5),
    "link_s": (1e-6, 3e-4),
    "hop_s": (1e-6, 1e-4),
    "step_s": (0.0, 0.2),
    "sequence_s": (0.0, 1e-3),
    "request_s": (0.0, 1.0),
    "interleave": (0.0, 1.2),
    "die_bytes_per_s": (2e10, 4e11),
}
SHARE = (0.02, 1.0)
# Cells of one kind go the same way from the parent, unless points tell: both shares of compute, both of memory.
TOGETHER = (("gemm_compute", "packed_compute"), ("gemm_memory", "packed_memory"))
APART = 0.1  # how far their ratios to the parent may plausibly lie apart, as a logarithm
REGULAR = 0.5  # of 0.2, 0.5 and 1.0 the one with the least error on folds of stacks with few points


def weight(point: MeasuredPoint) -> float:
    """How much a point weighs: by what its source says of itself."""
    source = point.row["source"].lower()
    unsure = any(word in source for word in ("not stated", "not told apart", "assumed"))
    weak = point.stack == "vllm-2024" and point.spec.vendor == "AMD"
    return 0.5 if unsure or weak else 1.0


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


def log_error(point: MeasuredPoint, stack: stacks.Stack) -> float:
    """log(predicted / measured)."""
    work = point.work
    constants = stack_constants(
        stack, point.spec, work.dtype, work.weight_dtype, threads=work.threads, ranks=work.tensor_parallel
    )
    return float(np.log(scoring.predicted_of(point, constants) / point.measured))


def fit(points: Sequence[MeasuredPoint], stack: stacks.Stack, start: dict[str, float]) -> stacks.Stack:
    """The stack with the cells of `start` fitted, each held near its value there."""
    free = list(start)
    scale = np.array([SCALES[cell] for cell in free])
    low, high = (np.array([LIMITS.get(cell, SHARE)[end] for cell in free]) for end in (0, 1))
    near = np.clip(list(start.values()), low, high)
    weights = np.sqrt([weight(point) for point in points])
    pairs = [(free.index(one), free.index(other)) for one, other in TOGETHER if one in start and other in start]

    def residuals(values: np.ndarray) -> np.ndarray:
        tried = stack._replace(**dict(zip(free, map(float, values), strict=True)))
        errors = np.array([log_error(point, tried) for point in points]) / ROBUST
        robust = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        apart = np.array([math.log(values[i] / near[i] / (values[j] / near[j])) for i, j in pairs])
        return np.concatenate([weights * robust, REGULAR * (values - near) / scale, REGULAR * apart / APART])

    inside = np.clip(near, low + 1e-9 * (high - low), high - 1e-9 * (high - low))
    found = least_squares(residuals, inside, bounds=(low, high), x_scale=scale, diff_step=1e-4, max_nfev=40)
    return stack._replace(**dict(zip(free, map(float, found.x), strict=True)))


def held_out(
    points: Sequence[MeasuredPoint], stack: stacks.Stack, start: dict[str, float]
) -> tuple[dict[int, float], dict[int, float]]:
    """Log errors by index of points that the fit did not see: of five folds, and of left-out devices."""
    folds = [zlib.crc32(json.dumps(sorted(point.row.items())).encode()) % FOLDS for point in points]
    devices = [point.spec.name for point in points]
    return _without(points, folds, stack, start), _without(points, devices, stack, start)


def _without(
    points: Sequence[MeasuredPoint], labels: Sequence[Any], stack: stacks.Stack, start: dict[str, float]
) -> dict[int, float]:
    found: dict[int, float] = {}
    for label in sorted(set(labels), key=str):
        rest = [point for point, own in zip(points, labels, strict=True) if own != label]
        fitted = fit(rest, stack, start) if rest else stack._replace(**start)
        for index, own in enumerate(labels):
            if own == label:
                found[index] = log_error(points[index], fitted)
    return found


def refit(data: dict[str, Any], points: Sequence[MeasuredPoint], only: Sequence[str]) -> list[dict[str, Any]]:
    """Fit all rows that have free cells, parents first; what was left out in turn comes back as residuals."""
    residuals = []
    for row in data["stacks"]:
        own = [point for point in points if key_of(point) == row["key"]]
        if (only and not {row["key"], row["key"].partition("/")[0]} & set(only)) or not row.get("free") or not own:
            continue
        rows = {one["key"]: one for one in data["stacks"]}
        parent = stacks._stack(row["parent"], rows)
        stack, free = stacks._stack(row["key"], rows), row["free"]
        start = {cell: getattr(parent, cell) for cell in free} | _told(row, rows)
        fitted = fit(own, stack, start)
        folds, devices = held_out(own, stack, start)
        row |= {cell: float(f"{getattr(fitted, cell):.4g}") for cell in free}
        row["points"], row["error"] = len(own), round(fmean(abs(np.expm1(log_error(p, fitted))) for p in own), 4)
        row["fitted"], row["devices"] = list(free), sorted({point.spec.name for point in own})
        row["sources"] = sorted({point.row["source"].partition(" | ")[0].partition(" id ")[0] for point in own})
        row["spread"] = spreads(own, folds)
        row["unseen_spread"] = {p: max(row["spread"][p], value) for p, value in spreads(own, devices).items()}
        cv, lodo = (fmean(abs(np.expm1(e)) for e in errors.values()) for errors in (folds, devices))
        print(
            f"{row['key']:24} {len(own):4} points  in {row['error']:.1%}  folds {cv:.1%}  devices {lodo:.1%}  "
            + " ".join(f"{cell}={row[cell]:.3g}" for cell in free),
            flush=True,
        )
        residuals += [
            {"row": own[i].row, "key": row["key"], "fold": folds[i], "device": devices[i]} for i in range(len(own))
        ]
    return residuals


def _told(row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> dict[str, float]:
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
