"""The tables of a comparison, each defined once; every figure comes from the comparison."""

from typing import Any

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Row, relative_error
from llamalab.comparison.wording import blocks, short
from llamalab.report.data_table import (
    DataTable,
    byte_count,
    error,
    number,
    prediction,
    rate,
    seconds,
    share,
    size_columns,
    speed,
    text,
)
from llamalab.report.roof_table import roofs

WORST = 8


def tables(comparison: Comparison) -> dict[str, DataTable]:
    """The tables of measurements, by name."""
    made = (
        passes_table(comparison),
        ops(comparison),
        memory_table(comparison),
        kv_cache(comparison),
        attention_table(comparison),
        roofs(comparison),
    )
    return {table.name: table for table in made}


def passes_table(comparison: Comparison) -> DataTable:
    """One row per phase."""
    rows = [
        {
            "phase": phase.run.phase,
            "batch": phase.run.batch,
            "new_tokens": phase.run.new_tokens,
            "context_tokens": phase.run.context_tokens,
            "predicted_s": phase.predicted_s,
            "measured_s": phase.measured_s,
            "error": phase.error,
            "predicted_tokens_per_s": phase.predicted_tokens_per_s,
            "measured_tokens_per_s": phase.measured_tokens_per_s,
            "limit": phase.limit.name if phase.limit else None,
            "roof_fraction": phase.limit.fraction if phase.limit else None,
            "basis": _basis(phase.run.basis, blocks(phase)),
        }
        for phase in comparison.phases
    ]
    columns = (
        text("phase"),
        *size_columns(),
        *prediction(),
        speed("predicted_tokens_per_s", "predicted tok/s"),
        speed("measured_tokens_per_s", "measured tok/s"),
        text("limit", "bound by"),
        share("roof_fraction", "of that roof"),
        text("basis"),
    )
    return DataTable("passes", "Whole passes, predicted and measured", columns, rows)


def ops(comparison: Comparison) -> DataTable:
    """One row per operation and phase; count x time adds up to the pass."""
    rows = [_op(row, _basis(phase.run.basis, blocks(phase))) for phase in comparison.phases for row in phase.rows]
    columns = (
        text("name", "operation", short),
        text("phase"),
        text("kind", main=False),
        number("count", "count", main=False),
        rate("flops_causal", "FLOPs", "FLOP", main=False),
        byte_count("bytes", "bytes", main=False),
        seconds("predicted_s", "predicted"),
        seconds("low_s", "from", main=False),
        seconds("high_s", "to", main=False),
        seconds("bound_s", "bound", main=False),
        seconds("measured_s", "measured"),
        seconds("q1_s", "first quartile", main=False),
        seconds("q3_s", "third quartile", main=False),
        error(),
        share("roof_fraction", "of its roof"),
        text("limit", "bound by"),
        text("basis", main=False),
        text("remark"),
    )
    return DataTable("ops", "Every operation, one occurrence: predicted and measured", columns, rows)


def memory_table(comparison: Comparison) -> DataTable:
    """Weights, cache and the peak of activations."""
    record, weights = comparison.record, comparison.weight_bytes
    built = record.parameters_measured * weights // comparison.parameters.expected
    rows: list[dict[str, Any]] = [
        _memory_row("weights", weights, built, "counted on the model as built"),
        _memory_row("KV cache of the last pass", comparison.kv.expected, comparison.kv.measured, "as allocated"),
    ]
    for phase in comparison.phases:
        used, peak = phase.run.memory, phase.predicted_memory
        method = used.method if used.peak_bytes is not None else f"not measured: {used.reason or 'no reason recorded'}"
        name = f"peak of activations, {phase.run.phase} (in {peak.step})"
        rows.append(_memory_row(name, peak.bytes, used.peak_bytes, method))
    columns = (
        text("what"),
        byte_count("predicted_bytes", "predicted"),
        byte_count("measured_bytes", "measured"),
        error(),
        text("method"),
    )
    return DataTable("memory", "Memory, predicted and measured", columns, rows)


def kv_cache(comparison: Comparison) -> DataTable:
    """The heat map's cells."""
    rows = [cell._asdict() | {"fits": "yes" if cell.fits else "no"} for cell in comparison.kv_cells]
    columns = (
        text("attention"),
        number("n_kv_heads", "KV heads"),
        number("context", "tokens"),
        number("batch", "batch"),
        byte_count("kv_bytes", "KV cache"),
        text("fits", "fits beside the weights"),
    )
    return DataTable("kv", "KV cache by kind of attention, length and batch", columns, rows)


def attention_table(comparison: Comparison) -> DataTable:
    """Attention backends by length."""
    rows = [
        {
            "backend": row.point.backend,
            "algorithm": row.point.algorithm,
            "batch": row.point.batch,
            "new_tokens": row.point.new_tokens,
            "context_tokens": row.point.context_tokens,
            "predicted_s": row.predicted_s,
            "measured_s": row.measured_s,
            "error": row.error,
            "predicted_bytes": row.predicted_bytes,
            "measured_bytes": row.point.peak_bytes,
            "kernel": row.point.kernel,
            "remark": _attention_remark(row.point.reason, row.reason),
        }
        for row in comparison.attention
    ]
    columns = (
        text("backend"),
        text("algorithm", main=False),
        number("batch", "batch", main=False),
        number("new_tokens", "new tokens"),
        number("context_tokens", "context", main=False),
        seconds("predicted_s", "predicted"),
        seconds("measured_s", "measured"),
        error(),
        byte_count("predicted_bytes", "predicted peak"),
        byte_count("measured_bytes", "measured peak"),
        text("kernel", main=False),
        text("remark", main=False),
    )
    return DataTable("attention", "Attention by itself, by backend and length", columns, rows)


def worst(comparison: Comparison) -> DataTable:
    """The calibrated operations with the largest errors, with their shares of their phase."""
    known = [
        (row, phase) for phase in comparison.phases for row in phase.rows if row.error is not None and not row.outside
    ]
    known.sort(key=lambda pair: -abs(pair[0].error or 0.0))
    rows = []
    for row, phase in known[:WORST]:
        low, high = row.interval_s or (None, None)
        rows.append(
            {
                "name": row.op.name,
                "phase": row.phase,
                "predicted_s": row.predicted_s,
                "low_s": low,
                "high_s": high,
                "measured_s": row.measured_s,
                "error": row.error,
                "share": phase.share_of(row),
            }
        )
    interval = (seconds("low_s", "from", main=False), seconds("high_s", "to", main=False))
    columns = (
        text("name", "operation", short),
        seconds("predicted_s", "predicted"),
        *(interval if comparison.basis.constants else ()),
        seconds("measured_s", "measured"),
        error(),
        text("phase"),
        share("share", "of its phase"),
    )
    return DataTable("worst", f"The {len(rows)} predictions that are furthest off", columns, rows)


def _op(row: Row, basis: str) -> dict[str, Any]:
    op, prediction, measurement = row.op, row.prediction, row.measurement
    first, third = measurement.quartiles_s if measurement else (None, None)
    low, high = row.interval_s or (None, None)
    remark = "faster than every probe: its rate is the roof" if row.roof_fraction == 1.0 else row.reason
    return {
        "name": op.name,
        "phase": row.phase,
        "kind": op.kind,
        "count": op.count,
        "flops_causal": op.flops_causal,
        "bytes": op.bytes,
        "predicted_s": row.predicted_s,
        "low_s": low,
        "high_s": high,
        "bound_s": prediction.bound_s if prediction else None,
        "measured_s": row.measured_s,
        "q1_s": first,
        "q3_s": third,
        "error": row.error,
        "roof_fraction": row.roof_fraction,
        "limit": prediction.limit if prediction else None,
        "basis": basis if op.count > 1 else "measured",
        "remark": remark,
    }


def _memory_row(what: str, predicted: int, measured: int | None, method: str) -> dict[str, Any]:
    wrong = relative_error(predicted, measured)
    return {"what": what, "predicted_bytes": predicted, "measured_bytes": measured, "error": wrong, "method": method}


def _attention_remark(not_measured: str | None, not_predicted: str | None) -> str | None:
    return f"not measured: {not_measured}" if not_measured else not_predicted


def _basis(basis: str, how: str) -> str:
    return f"extrapolated from {how}" if basis == "extrapolated" else basis
