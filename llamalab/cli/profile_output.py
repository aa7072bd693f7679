"""Profiles in a terminal: the passes and their closure, the operations, and the tables of the page."""

from dataclasses import asdict

from llamalab.cli.output import Answer, Column, Table, percent
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.records.phase_profile import MemoryProfile, PhaseProfile
    from llamalab.records.profile import Profile
    from llamalab.report.data_table import DataTable


def profile_answer(profiles: "list[Profile]") -> Answer:
    """Tables of operations, memory, instruments and the device's state; the first, of operations, is the CSV."""
    from llamalab.report.profile_memory_tables import at_peak, steps, timeline_table
    from llamalab.report.profile_tables import observers, telemetry_table

    rows = [
        {"kind": one.kind, "phase": phase.phase, **_op_row(asdict(op))}
        for one in profiles
        for phase in one.phases
        for op in phase.ops
    ]
    shared = (
        steps(profiles),
        at_peak(profiles),
        _first_block(timeline_table(profiles)),
        observers(profiles),
        telemetry_table(profiles),
    )
    operations = Table(_OPS, rows, "Time by operation: one occurrence; total and share over the whole model")
    lead = [line for one in profiles for line in _lead(one)]
    data = {"profiles": [asdict(one) for one in profiles]}
    return Answer(data, tuple(lead), tuple(table for table in (operations, *map(_of, shared)) if table.rows))


def _of(table: "DataTable") -> Table:
    """A table of the page for a terminal, without columns whose values are all unknown."""
    known = [column for column in table.columns if any(row[column.key] is not None for row in table.rows)]
    return Table(tuple(Column(one.key, one.title, one.show) for one in known), table.rows, table.caption)


def _first_block(table: "DataTable") -> "DataTable":
    """The rows of the first block, since blocks are alike."""
    rows = [row for row in table.rows if not row["op"].startswith("layers.") or row["op"].startswith("layers.0.")]
    return table._replace(rows=rows, caption="Most alive while an operation ran: the first block, and what is around")


def _lead(profile: "Profile") -> list[str]:
    lines = []
    for phase in profile.phases:
        ran = f"{phase.layers_measured} of {phase.layers_total} blocks"
        lines.append(
            f"{profile.model}, {profile.kind}, {profile.formats} on {profile.environment.device_name}, "
            f"{phase.phase} of {phase.batch} × {phase.new_tokens} tokens, context {phase.context_tokens}: {ran} took "
            f"{format_si(phase.wall_s, 's')}; operations {format_si(phase.named_s, 's')}, {phase.outside} "
            f"{format_si(phase.outside_s, 's')}: {100 * phase.closure:+.1f} % of the wall time"
        )
        if phase.missing:
            lines.append(f"  does not close: {phase.missing}")
        if phase.throttled:
            lines.append(f"  THROTTLED while measured: {', '.join(phase.throttled)}")
        product = f"weights {profile.product}; " if profile.product else ""
        lines.append(f"  {product}attention kernel: {phase.kernel or 'in steps'}; {_state(phase)}")
        lines.append(f"  {_memory(phase.memory)}")
        lines += [f"  not known: {name}: {why}" for why, name in _unknown(phase).items()]
    return lines


def _state(phase: "PhaseProfile") -> str:
    """Energy of a token and memory of the process, as far as reported."""
    joules, held, peak = phase.energy.joules_per_token, phase.usage.resident_bytes, phase.usage.peak_resident_bytes
    parts = [
        None if joules is None else f"{format_si(joules, 'J')} per token over {phase.energy.window_s:.1f} s",
        None if held is None else f"process {format_bytes(held)}",
        None if peak is None else f"at its peak {format_bytes(peak)}",
    ]
    return ", ".join(one for one in parts if one) or "energy and memory of the process not known"


def _memory(memory: "MemoryProfile") -> str:
    """Memory held throughout, and the peak above it."""
    if memory.peak_bytes is None:
        return f"memory not known: {memory.reason}"
    return (
        f"memory: weights {format_bytes(memory.weight_bytes)}, KV cache {format_bytes(memory.kv_bytes)}; "
        f"peak above them {format_bytes(memory.peak_bytes)} in {memory.peak_op} ({memory.method})"
    )


def _unknown(phase: "PhaseProfile") -> dict[str, str]:
    """Unreported values, by reason."""
    missing = dict(phase.after.missing)
    if phase.energy.joules_per_token is None:
        missing["energy"] = phase.energy.reason or "no reason recorded"
    return {why: ", ".join(key for key in missing if missing[key] == why) for why in missing.values()}


def _op_row(op: dict[str, Any]) -> dict[str, Any]:
    return {key: "; ".join(value) if key == "kernels" else value for key, value in op.items() if key != "samples_s"}


def _signed(value: float) -> str:
    return f"{100 * value:+.0f} %"


_OPS = (
    Column("kind", "model", rank=3),
    Column("phase", "phase"),
    Column("name", "operation"),
    Column("calls", "calls", rank=1),
    Column("time_s", "time", format_seconds, 1),
    Column("device_s", "in kernels", format_seconds, 2),
    Column("gap_s", "gaps", format_seconds, 2),
    Column("total_s", "total", format_seconds),
    Column("share", "share", percent),
    Column("flops_per_s", "achieved", lambda rate: format_si(rate, "FLOP/s"), 2),
    Column("bytes_per_s", "traffic", lambda rate: format_si(rate, "B/s"), 2),
    Column("roof_fraction", "of roof", percent, 1),
    Column("predicted_s", "predicted", format_seconds),
    Column("error", "error", _signed),
    Column("kernels", "kernels", rank=3),
)
