"""Runs as DataFrames for a comparison: one row an operation, times in seconds of all occurrences together."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llamalab.records.run import OpTime, Run, RunPhase
from llamalab.records.tables import frame_of_rows

if TYPE_CHECKING:
    from pandas import DataFrame, Series

REST = "outside of operations"


def run_frames(runs: Iterable[Run]) -> "dict[str, DataFrame]":
    """Runs of whatever tool: `phases` (a row a phase), `ops` (a row an operation) and `samples` (a row a sample)."""
    rows: dict[str, list[dict[str, Any]]] = {"phases": [], "ops": [], "samples": []}
    for run in runs:
        shared = {"run": run.name, "tool": run.tool, "model": run.model, "device": run.device}
        for one in run.phases:
            rows["phases"].append(shared | _figures(one))
            rows["samples"] += _samples(shared, one, None, one.samples_s)
            for op in one.ops:
                rows["ops"].append(shared | {"phase": one.name} | _figures(op) | {"basis": one.basis})
                rows["samples"] += _samples(shared, one, op.name, op.samples_s)
    return {name: frame_of_rows(found) for name, found in rows.items()}


def _figures(one: RunPhase | OpTime) -> dict[str, Any]:
    return {key: value for key, value in one._asdict().items() if key not in ("ops", "samples_s")}


def _samples(
    shared: dict[str, Any], phase: RunPhase, op: str | None, samples_s: Sequence[float]
) -> list[dict[str, Any]]:
    return [
        shared | {"phase": phase.name, "op": op, "sample": number, "time_s": seconds, "basis": phase.basis}
        for number, seconds in enumerate(samples_s)
    ]


def joined_ops(a: RunPhase, b: RunPhase) -> "DataFrame":
    """Two phases joined by operation, the largest difference first: `a_s`, `b_s`, `delta_s` and `share`.

    The row `REST` is the time outside of all operations, so that the rows add up to the phases. A time is NaN where a
    phase lacks the operation. `share` is of the sum of the absolute differences.
    """
    from pandas import DataFrame

    ours, theirs = _seconds(a), _seconds(b)
    names = ours.index.union(theirs.index, sort=False)
    joined = DataFrame({"a_s": ours.reindex(names), "b_s": theirs.reindex(names)})
    joined.loc[REST] = [a.total_s - ours.sum(), b.total_s - theirs.sum()]
    joined["delta_s"] = joined.b_s.fillna(0.0) - joined.a_s.fillna(0.0)
    joined["share"] = joined.delta_s.abs() / (joined.delta_s.abs().sum() or 1.0)
    return joined.sort_values("delta_s", key=lambda delta_s: -delta_s.abs(), kind="stable")


def _seconds(phase: RunPhase) -> "Series[float]":
    """Seconds by operation; operations of the same name are added."""
    frame = frame_of_rows(op._asdict() for op in phase.ops)
    return frame.groupby("name", sort=False).total_s.sum().rename_axis("op")
