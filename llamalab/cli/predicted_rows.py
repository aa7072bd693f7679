"""Rows of a prediction's operations, with published kernels."""

from llamalab.analytic.forecast import Forecast
from llamalab.analytic.op import Op
from llamalab.analytic.roofline import predict_pass
from llamalab.cli.output import Column
from llamalab.cli.runs import (
    Case,
)
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.startup.hints import Any

OP_COLUMNS = (
    Column("phase", "phase"),
    Column("op", "operation"),
    Column("count", "count"),
    Column("flops", "FLOPs", lambda value: format_si(value, "FLOP"), 2),
    Column("bytes", "moved", format_bytes, 2),
    Column("time_s", "time each", format_seconds, 1),
    Column("bound_s", "bound", format_seconds, 3),
    Column("total_s", "in all", format_seconds),
    Column("limit", "limit"),
)
KERNEL_COLUMNS = (
    Column("phase", "phase"),
    Column("op", "operation"),
    Column("shape", "shape", rank=1),
    Column("time_s", "predicted", format_seconds),
    Column("published_shape", "nearest published"),
    Column("published_s", "published", format_seconds),
    Column("predicted_s", "predicted there", format_seconds),
    Column("error", "error", "{:+.1%}".format),
    Column("source", "source", rank=1),
)


def predicted_rows(phase: str, ops: tuple[Op, ...], result: Forecast) -> list[dict[str, Any]]:
    """The table of one pass with its predicted times."""
    predictions = predict_pass(ops, result.constants.rates)
    return [
        {
            "phase": phase,
            "op": op.name,
            "kind": op.kind,
            "part": op.part,
            "count": op.count,
            "flops": op.flops_causal,
            "vector_flops": op.vector_flops,
            "weight_bytes": op.weight_bytes,
            "read_bytes": op.read_bytes,
            "written_bytes": op.written_bytes,
            "link_bytes": op.link_bytes,
            "bytes": op.bytes,
            **predictions[op.name]._asdict(),
            "total_s": op.count * predictions[op.name].time_s,
        }
        for op in ops
    ]


def kernels_beside(case: Case, result: Forecast) -> list[dict[str, Any]]:
    """Kernels that others measured on the device, for the rows of both passes."""
    if not case.split.only_tensor or case.spec.measured:
        return []
    from llamalab.comparison.published_kernels import published_rows

    return published_rows(case.spec.name, case.arch, case.work, result)


def unpublished(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Number of rows without a published kernel, and why."""
    reasons = [row["reason"] for row in rows if row["reason"]]
    if not reasons:
        return ()
    why = "; ".join(dict.fromkeys(reasons))
    return (f"  published kernels: none beside {len(reasons)} of {len(rows)} rows ({why})",)
