"""The numbers behind the plots, each table defined once: raw in CSV, formatted in HTML.

Keys carry their unit. What is not known is empty in CSV and a dash in HTML.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.arch import attention_kind
from llamalab.comparison.comparison import Comparison, Row, relative_error
from llamalab.comparison.sentences import blocks, percent, short
from llamalab.hardware import HardwareSpec, of_device
from llamalab.plain_text import csv_text
from llamalab.records.record import Roof
from llamalab.report.charts.heatmap import BATCHES, kv_head_choices, sequence_lengths
from llamalab.units import format_bytes, format_si

WORST = 8


class Column(NamedTuple):
    """A key with its title and how a value is shown."""

    key: str
    title: str
    show: Callable[[Any], str] = str
    numeric: bool = True


class Table(NamedTuple):
    """Rows of raw values under named columns; the first column names the row."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Any]]

    @property
    def shown(self) -> list[list[str]]:
        """The cells as text."""
        return [[_cell(column, row[column.key]) for column in self.columns] for row in self.rows]

    @property
    def csv(self) -> str:
        """The table as CSV, raw."""
        return csv_text([column.key for column in self.columns], self.rows)


def tables(comparison: Comparison) -> dict[str, Table]:
    """The tables of what was measured, by name."""
    made = (
        passes(comparison), ops(comparison), memory(comparison), kv_cache(comparison),
        attention(comparison), roofs(comparison),
    )  # fmt: skip
    return {table.name: table for table in made}


def passes(comparison: Comparison) -> Table:
    """One row per phase."""
    rows = [
        {
            "phase": phase.run.phase, "batch": phase.run.batch, "new_tokens": phase.run.new_tokens,
            "context_tokens": phase.run.context_tokens, "predicted_s": phase.predicted_s,
            "measured_s": phase.measured_s, "error": phase.error,
            "predicted_tokens_per_s": phase.predicted_tokens_per_s,
            "measured_tokens_per_s": phase.measured_tokens_per_s,
            "limit": phase.limit.name if phase.limit else None,
            "roof_fraction": phase.limit.fraction if phase.limit else None,
            "basis": _basis(phase.run.basis, blocks(phase)),
        }
        for phase in comparison.phases
    ]  # fmt: skip
    columns = (
        _text("phase"), Column("batch", "batch"), Column("new_tokens", "new tokens", _count),
        Column("context_tokens", "context", _count), _time("predicted_s", "predicted"), _time("measured_s", "measured"),
        Column("error", "error", percent), Column("predicted_tokens_per_s", "predicted tok/s", _rate),
        Column("measured_tokens_per_s", "measured tok/s", _rate), _text("limit", "bound by"),
        Column("roof_fraction", "of that roof", _share), _text("basis"),
    )  # fmt: skip
    return Table("passes", "Whole passes, predicted and measured", columns, rows)


def ops(comparison: Comparison) -> Table:
    """One row per operation and phase; count x time adds up to the pass."""
    rows = [_op(row, _basis(phase.run.basis, blocks(phase))) for phase in comparison.phases for row in phase.rows]
    columns = (
        _text("name", "operation", short), _text("phase"), _text("kind"), Column("count", "count"),
        Column("flops_causal", "FLOPs", lambda value: format_si(value, "FLOP")), Column("bytes", "bytes", format_bytes),
        _time("predicted_s", "predicted"), _time("low_s", "from"), _time("high_s", "to"), _time("bound_s", "bound"),
        _time("measured_s", "measured"), _time("q1_s", "first quartile"), _time("q3_s", "third quartile"),
        Column("error", "error", percent),
        Column("roof_fraction", "of its roof", _share), _text("limit", "bound by"), _text("basis"),
        _text("remark"),
    )  # fmt: skip
    return Table("ops", "Every operation, one occurrence: predicted and measured", columns, rows)


def memory(comparison: Comparison) -> Table:
    """Weights, cache and the peak of activations."""
    record = comparison.record
    weights = weight_bytes(comparison.arch, record.dtype)
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
        _text("what"), Column("predicted_bytes", "predicted", format_bytes),
        Column("measured_bytes", "measured", format_bytes), Column("error", "error", percent), _text("method"),
    )  # fmt: skip
    return Table("memory", "Memory, predicted and measured", columns, rows)


def kv_cache(comparison: Comparison) -> Table:
    """The heat map's cells."""
    arch, dtype = comparison.arch, comparison.record.dtype
    free = comparison.record.environment.memory_bytes - weight_bytes(arch, dtype)
    rows = []
    for heads in kv_head_choices(arch):
        variant = arch.replace(n_kv_heads=heads)
        for seq in sequence_lengths(arch):
            for batch in BATCHES:
                size = kv_bytes(variant, seq=seq, batch=batch, dtype=dtype)
                kind = attention_kind(arch.n_heads, heads)
                rows.append({"attention": kind, "n_kv_heads": heads, "seq": seq, "batch": batch, "kv_bytes": size,
                             "fits": "yes" if size <= free else "no"})  # fmt: skip
    columns = (
        _text("attention"), Column("n_kv_heads", "KV heads"), Column("seq", "tokens", _count),
        Column("batch", "batch"), Column("kv_bytes", "KV cache", format_bytes),
        _text("fits", "fits beside the weights"),
    )  # fmt: skip
    return Table("kv", "KV cache by kind of attention, length and batch", columns, rows)


def attention(comparison: Comparison) -> Table:
    """Attention backends by length."""
    rows = [
        {
            "backend": row.point.backend, "algorithm": row.point.algorithm, "batch": row.point.batch,
            "new_tokens": row.point.new_tokens, "context_tokens": row.point.context_tokens,
            "predicted_s": row.predicted_s, "measured_s": row.measured_s, "error": row.error,
            "predicted_bytes": row.predicted_bytes, "measured_bytes": row.point.peak_bytes,
            "kernel": row.point.kernel, "remark": _attention_remark(row.point.reason, row.reason),
        }
        for row in comparison.attention
    ]  # fmt: skip
    columns = (
        _text("backend"), _text("algorithm"), Column("batch", "batch"), Column("new_tokens", "new tokens", _count),
        Column("context_tokens", "context", _count), _time("predicted_s", "predicted"), _time("measured_s", "measured"),
        Column("error", "error", percent), Column("predicted_bytes", "predicted peak", format_bytes),
        Column("measured_bytes", "measured peak", format_bytes), _text("kernel"), _text("remark"),
    )  # fmt: skip
    return Table("attention", "Attention by itself, by backend and length", columns, rows)


def roofs(comparison: Comparison) -> Table:
    """The measured ceilings and their self-check, beside the data sheet where the device has one."""
    environment = comparison.record.environment
    spec = of_device(environment.device_name, environment.memory_bytes)
    rows = [_roof(roof, data_sheet_rate(spec, roof)) for roof in comparison.record.roofs]
    columns = (
        _text("kind", "roof"), _text("dtype"),
        Column("per_second", "FLOP or byte per second", lambda value: format_si(value, "")),
        _time("seconds", "fixed time"), Column("doubling_ratio", "doubled work takes", lambda value: f"{value:.2f}x"),
        _text("trusted"), Column("data_sheet_per_second", "data sheet", lambda value: format_si(value, "")),
        Column("data_sheet_share", "of the data sheet", _share), _text("shape"), _text("remark"),
    )  # fmt: skip
    return Table(
        "roofs", "Roofs measured on this machine; trusted where doubled work takes 1.8x to 2.2x", columns, rows
    )


def data_sheet_rate(spec: HardwareSpec | None, roof: Roof) -> float | None:
    """What the data sheet has for a roof; None where the device or that figure has none."""
    if spec is None:
        return None
    if roof.kind in ("gemm", "attention"):
        return spec.peak_flops_per_s.get(roof.dtype)
    return spec.bandwidth_bytes_per_s if roof.kind in ("stream", "copy") else None


def _roof(roof: Roof, sheet: float | None) -> dict[str, Any]:
    return {
        "kind": roof.kind, "dtype": roof.dtype, "per_second": roof.per_second, "seconds": roof.seconds,
        "doubling_ratio": roof.doubling_ratio, "trusted": "yes" if roof.trusted else "no",
        "data_sheet_per_second": sheet,
        "data_sheet_share": roof.per_second / sheet if sheet and roof.per_second else None,
        "shape": roof.shape, "remark": f"reached by {short(roof.raised_by)}" if roof.raised_by else roof.reason,
    }  # fmt: skip


def worst(comparison: Comparison) -> Table:
    """The operations whose prediction is furthest off, with what they weigh in their phase."""
    known = [(row, phase) for phase in comparison.phases for row in phase.rows if row.error is not None]
    known.sort(key=lambda pair: -abs(pair[0].error or 0.0))
    rows = []
    for row, phase in known[:WORST]:
        low, high = row.interval_s or (None, None)
        rows.append({
            "name": row.op.name, "phase": row.phase, "error": row.error, "predicted_s": row.predicted_s, "low_s": low,
            "high_s": high, "measured_s": row.measured_s,
            "share": row.op.count * (row.measured_s or 0.0) / phase.measured_s,
        })  # fmt: skip
    interval = (_time("low_s", "from"), _time("high_s", "to")) if comparison.basis.constants else ()
    columns = (
        _text("name", "operation", short), _text("phase"), Column("error", "error", percent),
        _time("predicted_s", "predicted"), *interval, _time("measured_s", "measured"),
        Column("share", "of its phase", _share),
    )  # fmt: skip
    return Table("worst", f"The {len(rows)} predictions that are furthest off", columns, rows)


def _op(row: Row, basis: str) -> dict[str, Any]:
    op, prediction, measurement = row.op, row.prediction, row.measurement
    first, third = measurement.quartiles_s if measurement else (None, None)
    low, high = row.interval_s or (None, None)
    remark = "faster than every probe: its rate is the roof" if row.roof_fraction == 1.0 else row.reason
    return {
        "name": op.name, "phase": row.phase, "kind": op.kind, "count": op.count, "flops_causal": op.flops_causal,
        "bytes": op.bytes, "predicted_s": row.predicted_s, "low_s": low, "high_s": high,
        "bound_s": prediction.bound_s if prediction else None,
        "measured_s": row.measured_s, "q1_s": first, "q3_s": third, "error": row.error,
        "roof_fraction": row.roof_fraction, "limit": prediction.limit if prediction else None,
        "basis": basis if op.count > 1 else "measured", "remark": remark,
    }  # fmt: skip


def _memory_row(what: str, predicted: int, measured: int | None, method: str) -> dict[str, Any]:
    error = relative_error(predicted, measured)
    return {
        "what": what, "predicted_bytes": predicted, "measured_bytes": measured, "error": error, "method": method
    }  # fmt: skip


def _attention_remark(not_measured: str | None, not_predicted: str | None) -> str | None:
    return f"not measured: {not_measured}" if not_measured else not_predicted


def _basis(basis: str, how: str) -> str:
    return f"extrapolated from {how}" if basis == "extrapolated" else basis


def _text(key: str, title: str = "", show: Callable[[Any], str] = str) -> Column:
    return Column(key, title or key, show, numeric=False)


def _time(key: str, title: str) -> Column:
    return Column(key, title, lambda value: format_si(value, "s"))


def _count(value: int) -> str:
    return f"{value:,}"


def _rate(value: float) -> str:
    return f"{value:,.4g}"


def _share(value: float) -> str:
    return f"{value:.0%}"


def _cell(column: Column, value: Any) -> str:
    return "–" if value is None else column.show(value)
