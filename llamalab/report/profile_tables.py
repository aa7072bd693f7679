"""The numbers behind a profile's plots, for one or more profiles side by side: raw in CSV, formatted in HTML."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llamalab.comparison.sentences import percent, short
from llamalab.records.phase_profile import OpProfile, PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report.tables import Column, Table
from llamalab.units import format_bytes, format_seconds, format_si

_STATE = ("clock_hz", "memory_clock_hz", "power_w", "temperature_c", "load_average")


def csv_tables(profiles: Sequence[Profile]) -> dict[str, Table]:
    """Those that become CSV files, by name."""
    made = (layers(profiles), timeline(profiles), kernels(profiles), telemetry(profiles), observers(profiles))
    return {table.name: table for table in made}


def layers(profiles: Sequence[Profile]) -> Table:
    """Each operation with the time of every block that ran."""
    rows = []
    for profile, phase, op in _ops(profiles):
        times = op.layers_s or [op.time_s]
        rows.append({
            "phase": phase.phase, "kind": profile.kind, "name": op.name, "calls": op.calls, "time_s": op.time_s,
            "shortest_s": min(times), "longest_s": max(times), "sum_s": sum(times), "share": op.share,
            "layers_s": " ".join(f"{seconds:.4g}" for seconds in times),
        })  # fmt: skip
    columns = (
        _text("name", "operation", short), *_which(profiles), Column("calls", "calls"), _time("time_s", "one call"),
        _time("shortest_s", "shortest"), _time("longest_s", "longest"), _time("sum_s", "of all that ran"),
        Column("share", "of the whole pass", _share), _text("layers_s", "block by block, seconds"),
    )  # fmt: skip
    return Table("layers", "Time of every operation, block by block", columns, rows)


def timeline(profiles: Sequence[Profile]) -> Table:
    """The most alive in each operation; blocks like the one before are left out."""
    rows = []
    for profile, phase in _phases(profiles):
        for one in phase.memory.timeline:
            rows.append({
                "phase": phase.phase, "kind": profile.kind, "op": one.op, "total_bytes": one.total_bytes,
                "kv_bytes": one.kv_bytes, "activation_bytes": one.activation_bytes, "logits_bytes": one.logits_bytes,
                "workspace_bytes": one.workspace_bytes,
            })  # fmt: skip
    columns = (
        _text("op", "operation"), *_which(profiles), _bytes("total_bytes", "all"), _bytes("kv_bytes", "KV"),
        _bytes("activation_bytes", "activations"), _bytes("logits_bytes", "logits"),
        _bytes("workspace_bytes", "workspace"),
    )  # fmt: skip
    return Table("timeline", "Most alive while an operation ran; blocks like the one before are left out",
                 columns, rows)  # fmt: skip


def at_peak(profiles: Sequence[Profile]) -> Table:
    """What had been made of the bytes that were alive at the peak."""
    rows = [
        {"phase": phase.phase, "kind": profile.kind, "op": one.op, "category": one.category, "bytes": one.bytes,
         "share": one.bytes / (phase.memory.peak_bytes or one.bytes)}
        for profile, phase in _phases(profiles) for one in phase.memory.at_peak
    ]  # fmt: skip
    columns = (
        _text("op", "made by"), *_which(profiles), _text("category", "category"), _bytes("bytes", "bytes"),
        Column("share", "of the peak", _share),
    )  # fmt: skip
    return Table("peak", "Alive at the peak, and what made it", columns, rows)


def steps(profiles: Sequence[Profile]) -> Table:
    """Memory step by step beside the predicted."""
    rows = [
        {"phase": phase.phase, "kind": profile.kind, "step": one.step, "measured_bytes": one.measured_bytes,
         "predicted_bytes": one.predicted_bytes, "error": one.error}
        for profile, phase in _phases(profiles) for one in phase.memory.steps
    ]  # fmt: skip
    columns = (
        _text("step", "step"), *_which(profiles), _bytes("measured_bytes", "most alive"),
        _bytes("predicted_bytes", "predicted"), Column("error", "error", percent),
    )  # fmt: skip
    return Table("steps", "Most alive in each step, predicted and measured", columns, rows)


def kernels(profiles: Sequence[Profile]) -> Table:
    """Which kernels each operation ran, and how much of its time they took."""
    rows = [
        {"phase": phase.phase, "kind": profile.kind, "name": op.name, "kernels": "; ".join(op.kernels) or None,
         "calls": op.calls, "time_s": op.time_s, "device_s": op.device_s, "gap_s": op.gap_s,
         "share": op.share}
        for profile, phase, op in _ops(profiles)
    ]  # fmt: skip
    columns = (
        _text("name", "operation", short), *_which(profiles), _text("kernels", "kernels, the longest first", _few),
        Column("calls", "calls"), _time("time_s", "one call"), _time("device_s", "in kernels"), _time("gap_s", "gaps"),
        Column("share", "of the pass", _share),
    )  # fmt: skip
    return Table("kernels", "Kernels of every operation, as the profiler saw them", columns, rows)


def telemetry(profiles: Sequence[Profile]) -> Table:
    """The device's state around each phase, and what the process held after it."""
    rows = []
    for profile, phase in _phases(profiles):
        for moment, state in phase.states:
            last = moment == "after"
            reasons = state.throttle_reasons
            rows.append({
                "phase": phase.phase, "kind": profile.kind, "moment": moment,
                **{key: getattr(state, key) for key in _STATE},
                "throttled": None if reasons is None else ", ".join(reasons) or "no",
                "resident_bytes": phase.usage.resident_bytes if last else None,
                "peak_resident_bytes": phase.usage.peak_resident_bytes if last else None,
                "joules_per_token": phase.energy.joules_per_token if last else None,
            })  # fmt: skip
    columns = (
        *_which(profiles), _text("moment", "when"), Column("clock_hz", "clock", _hertz),
        Column("memory_clock_hz", "memory clock", _hertz), Column("power_w", "power", "{:.0f} W".format),
        Column("temperature_c", "temperature", "{:.0f} °C".format), _text("throttled", "throttled"),
        Column("load_average", "load", "{:.2f}".format), _bytes("resident_bytes", "process (RSS)"),
        _bytes("peak_resident_bytes", "its peak (VmHWM)"),
        Column("joules_per_token", "energy per token", lambda value: format_si(value, "J")),
    )  # fmt: skip
    return Table("telemetry", "State of the device before, during and after each phase", columns, rows)


def observers(profiles: Sequence[Profile]) -> Table:
    """What each instrument costs."""
    rows = [
        {"phase": phase.phase, "kind": profile.kind, "name": one.name, "ratio": one.ratio, "about": one.about}
        for profile, phase in _phases(profiles) for one in phase.instruments
    ]  # fmt: skip
    columns = (
        _text("name", "instrument"), *_which(profiles), Column("ratio", "time over a clean pass", "{:.2f}x".format),
        _text("about", "what it does"),
    )  # fmt: skip
    return Table("observers", "What looking costs: each instrument in passes of its own", columns, rows)


def side_by_side(profiles: Sequence[Profile]) -> Table:
    """The same operations of several profiles, one column each, and the last over the first."""
    first = profiles[0]
    rows = []
    for phase in first.phases:
        others = [_phase(other, phase.phase) for other in profiles[1:]]
        times = [_by_row(one, _merges(others)) if one else {} for one in (phase, *others)]
        for name in times[0]:
            own = [one.get(name) for one in times]
            ratio = own[-1] / own[0] if own[-1] is not None and own[0] else None
            rows.append({"phase": phase.phase, "name": name, "ratio": ratio}
                        | {f"{place}_s": seconds for place, seconds in enumerate(own)})  # fmt: skip
    kinds = [_time(f"{place}_s", profile.kind) for place, profile in enumerate(profiles)]
    columns = (
        _text("phase", "phase"), _text("name", "operation", short), *kinds,
        Column("ratio", f"{profiles[-1].kind} over {first.kind}", "{:.2f}x".format),
    )  # fmt: skip
    return Table("beside", "One call of every operation, side by side", columns, rows)


def _merges(phases: Sequence[PhaseProfile | None]) -> dict[str, str]:
    """The row in which one of them has an operation together with others, by the operation."""
    names = {op.name for phase in phases if phase for op in phase.ops if "+" in op.name}
    return {f"{name.rpartition('.')[0]}.{part}": name for name in names for part in name.rpartition(".")[2].split("+")}


def _by_row(phase: PhaseProfile, merged: dict[str, str]) -> dict[str, float]:
    """Seconds of one call by operation, added up where the other has several in one row."""
    found: dict[str, float] = {}
    for op in phase.ops:
        name = merged.get(op.name, op.name)
        found[name] = found.get(name, 0.0) + op.time_s
    return found


def _phase(profile: Profile, name: str) -> PhaseProfile | None:
    return next((phase for phase in profile.phases if phase.phase == name), None)


def _phases(profiles: Sequence[Profile]) -> Iterator[tuple[Profile, PhaseProfile]]:
    return ((profile, phase) for profile in profiles for phase in profile.phases)


def _ops(profiles: Sequence[Profile]) -> Iterator[tuple[Profile, PhaseProfile, OpProfile]]:
    return ((profile, phase, op) for profile, phase in _phases(profiles) for op in phase.ops)


def _which(profiles: Sequence[Profile]) -> tuple[Column, ...]:
    """The columns that say which pass a row is of."""
    phase = _text("phase", "phase")
    return (phase, _text("kind", "model")) if len(profiles) > 1 else (phase,)


def _text(key: str, title: str, show: Callable[[Any], str] = str) -> Column:
    return Column(key, title, show, numeric=False)


def _time(key: str, title: str) -> Column:
    return Column(key, title, format_seconds)


def _bytes(key: str, title: str) -> Column:
    return Column(key, title, format_bytes)


def _few(kernels: str) -> str:
    """The first two of a long list of kernels; CSV has all.

    >>> _few("a; b; c"), _few("a; b; c; d")
    ('a; b; c', 'a; b; 2 more')
    """
    names = kernels.split("; ")
    return "; ".join([*names[:2], f"{len(names) - 2} more"] if len(names) > 3 else names)


def _share(value: float) -> str:
    return f"{value:.0%}"


def _hertz(value: float) -> str:
    return format_si(value, "Hz")
