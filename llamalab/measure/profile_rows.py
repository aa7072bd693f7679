"""What do the passes of a profile say together? One row per operation, and whether the rows add up."""

from llamalab.compare import Row
from llamalab.measure.kernel_times import Busy
from llamalab.measure.profile_data import OpProfile
from llamalab.measure.ranges import MERGED, SETUP
from llamalab.records import Measurement, Telemetry

CLOSES = 0.05


def op_profile(one: Measurement, rows: list[Row], busy: Busy | None, calls: int, total_s: float) -> OpProfile:
    """One row; a merged one adds up the table's rows that are in it."""
    time_s, whole_s = one.median_s, one.median_s * one.count
    flops, moved = sum(row.op.flops_causal for row in rows), sum(row.op.bytes for row in rows)
    predictions = [row.prediction for row in rows if row.prediction is not None]
    complete = len(predictions) == len(rows) > 0
    predicted_s = sum(prediction.time_s for prediction in predictions) if complete else None
    bound_s = sum(prediction.bound_s for prediction in predictions) if complete else None
    device_s = None
    if busy is not None and busy.range_s:
        # The profiler makes ranges longer, not what part of them is work; on CUDA kernels keep their length.
        device_s = min(time_s, time_s * busy.device_s / busy.range_s)
    return OpProfile(
        name=one.name,
        calls=calls,
        count=one.count,
        time_s=time_s,
        total_s=whole_s,
        share=whole_s / total_s,
        device_s=device_s,
        gap_s=None if device_s is None else time_s - device_s,
        flops=flops,
        bytes=moved,
        flops_per_s=flops / time_s,
        bytes_per_s=moved / time_s,
        roof_fraction=None if bound_s is None else bound_s / time_s,
        predicted_s=predicted_s,
        error=None if predicted_s is None else predicted_s / time_s - 1,
        kernels=busy.kernels if busy else [],
        samples_s=one.samples_s,
        reason=next((row.reason for row in rows if row.prediction is None), None),
    )


def parts_of(name: str, table: dict[str, Row]) -> list[Row]:
    """The rows of the cost table that a measured row stands for."""
    if not name.startswith(MERGED):
        return [table[name]]
    prefix, _, steps = name.rpartition(".")
    return [table[f"{prefix}.{step}"] for step in steps.split("+")]


def ops_and_outside(
    passes: list[dict[str, float]], layers: int
) -> tuple[dict[str, tuple[list[float], int]], list[float]]:
    """Samples of one occurrence and occurrences, by row; and what was outside of all rows."""
    ops = {
        name: ([one[name] / (layers if "*" in name else 1) for one in passes], layers if "*" in name else 1)
        for name in passes[0]
        if name != SETUP
    }
    return ops, [one.get(SETUP, 0.0) for one in passes]


def missing_time(closure: float, kind: str) -> str | None:
    """Why the rows do not add up to the pass; None where they do."""
    if abs(closure) <= CLOSES:
        return None
    if closure > 0:
        return (
            f"the operations add up to {closure:.0%} more than a clean pass: the timestamps, or other work on "
            "the machine, slowed them; the times of short operations are too long by that"
        )
    where = "hooks and modules of transformers" if kind != "llamalab" else "the end of the pass, after the logits"
    return f"{-closure:.0%} of a clean pass is in no operation: it is spent in {where}, or the machine was uneven"


def throttle_reasons(before: Telemetry, after: Telemetry) -> list[str] | None:
    """Every reason that held before or after; None where the device does not tell."""
    if before.throttle_reasons is None or after.throttle_reasons is None:
        return None
    return sorted({*before.throttle_reasons, *after.throttle_reasons})
