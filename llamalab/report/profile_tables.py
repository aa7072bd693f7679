"""The data of a profile's plots, for one or more profiles side by side: raw in CSV, formatted on the page."""

from collections.abc import Sequence

from llamalab.analytic.op import row_names
from llamalab.comparison.wording import short
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report.data_table import (
    DataTable,
    byte_count,
    number,
    rate,
    ratio,
    seconds,
    share,
    text,
)
from llamalab.report.profile_memory_tables import timeline_table
from llamalab.report.profile_rows import each_op, each_phase, pass_columns, phase_named

FIRST_BLOCKS = 8  # blocks whose times are shown on the page
_STATE = ("clock_hz", "memory_clock_hz", "power_w", "temperature_c", "load_average")


def csv_tables(profiles: Sequence[Profile]) -> dict[str, DataTable]:
    """The tables written as CSV files, by name."""
    made = (
        layer_table(profiles),
        timeline_table(profiles),
        kernels(profiles),
        telemetry_table(profiles),
        observers(profiles),
    )
    return {table.name: table for table in made}


def layer_table(profiles: Sequence[Profile]) -> DataTable:
    """Each operation with the time of every block that ran."""
    rows = [
        {
            "phase": phase.phase,
            "kind": profile.kind,
            "name": op.name,
            "calls": op.calls,
            "time_s": op.time_s,
            "shortest_s": min(op.layers_s or [op.time_s]),
            "longest_s": max(op.layers_s or [op.time_s]),
            "sum_s": sum(op.layers_s or [op.time_s]),
            "share": op.share,
            "layers_s": " ".join(f"{time_s:.4g}" for time_s in op.layers_s or [op.time_s]),
        }
        for profile, phase, op in each_op(profiles)
    ]
    columns = (
        text("name", "operation", short),
        *pass_columns(profiles),
        number("calls", "calls"),
        seconds("time_s", "one call"),
        seconds("shortest_s", "shortest"),
        seconds("longest_s", "longest"),
        seconds("sum_s", "of all that ran"),
        share("share", "of the whole pass"),
        text("layers_s", "block by block, seconds", _first_blocks, main=False),
    )
    return DataTable("layers", "Time of every operation, block by block", columns, rows)


def kernels(profiles: Sequence[Profile]) -> DataTable:
    """The kernels of each operation, and their share of its time."""
    rows = [
        {
            "phase": phase.phase,
            "kind": profile.kind,
            "name": op.name,
            "kernels": "; ".join(op.kernels) or None,
            "calls": op.calls,
            "time_s": op.time_s,
            "device_s": op.device_s,
            "gap_s": op.gap_s,
            "share": op.share,
        }
        for profile, phase, op in each_op(profiles)
    ]
    columns = (
        text("name", "operation", short),
        *pass_columns(profiles),
        text("kernels", "kernels, the longest first"),
        number("calls", "calls", main=False),
        seconds("time_s", "one call"),
        seconds("device_s", "in kernels"),
        seconds("gap_s", "gaps"),
        share("share", "of the pass"),
    )
    return DataTable("kernels", "Kernels of every operation, as the profiler saw them", columns, rows)


def telemetry_table(profiles: Sequence[Profile]) -> DataTable:
    """The device's state around each phase, and the memory of the process after it."""
    rows = []
    for profile, phase in each_phase(profiles):
        for moment, state in phase.states:
            last = moment == "after"
            reasons = state.throttle_reasons
            rows.append(
                {
                    "phase": phase.phase,
                    "kind": profile.kind,
                    "moment": moment,
                    **{key: getattr(state, key) for key in _STATE},
                    "throttled": None if reasons is None else ", ".join(reasons) or "no",
                    "resident_bytes": phase.usage.resident_bytes if last else None,
                    "peak_resident_bytes": phase.usage.peak_resident_bytes if last else None,
                    "joules_per_token": phase.energy.joules_per_token if last else None,
                }
            )
    columns = (
        *pass_columns(profiles),
        text("moment", "when"),
        rate("clock_hz", "clock", "Hz"),
        rate("memory_clock_hz", "memory clock", "Hz"),
        number("power_w", "power", "{:.0f} W".format),
        number("temperature_c", "temperature", "{:.0f} °C".format),
        text("throttled", "throttled"),
        number("load_average", "load", "{:.2f}".format),
        byte_count("resident_bytes", "process (RSS)"),
        byte_count("peak_resident_bytes", "its peak (VmHWM)"),
        rate("joules_per_token", "energy per token", "J"),
    )
    return DataTable("telemetry", "State of the device before, during and after each phase", columns, rows)


def observers(profiles: Sequence[Profile]) -> DataTable:
    """The cost of each instrument."""
    rows = [
        {"phase": phase.phase, "kind": profile.kind, "name": one.name, "ratio": one.ratio, "about": one.about}
        for profile, phase in each_phase(profiles)
        for one in phase.instruments
    ]
    columns = (
        text("name", "instrument"),
        *pass_columns(profiles),
        ratio("ratio", "time over a clean pass"),
        text("about", "what it does"),
    )
    return DataTable("observers", "Cost of the instruments: each in passes of its own", columns, rows)


def side_by_side_table(profiles: Sequence[Profile]) -> DataTable:
    """The same operations of several profiles, one column each, and the last over the first."""
    first = profiles[0]
    rows = []
    for phase in first.phases:
        others = [phase_named(other, phase.phase) for other in profiles[1:]]
        times = [_by_row(one, _merges(others)) if one else {} for one in (phase, *others)]
        for name in times[0]:
            own = [one.get(name) for one in times]
            factor = own[-1] / own[0] if own[-1] is not None and own[0] else None
            rows.append(
                {"phase": phase.phase, "name": name, "ratio": factor}
                | {f"{place}_s": time_s for place, time_s in enumerate(own)}
            )
    kinds = [seconds(f"{place}_s", profile.kind) for place, profile in enumerate(profiles)]
    columns = (
        text("phase", "phase"),
        text("name", "operation", short),
        *kinds,
        ratio("ratio", f"{profiles[-1].kind} over {first.kind}"),
    )
    return DataTable("beside", "One call of every operation, side by side", columns, rows)


def _first_blocks(times: str) -> str:
    """The times of the first blocks; the CSV has all.

    >>> _first_blocks("1 2 3"), _first_blocks("1 2 3 4 5 6 7 8 9 10")
    ('1 2 3', '1 2 3 4 5 6 7 8 and 2 more')
    """
    shown = times.split(" ")
    left = len(shown) - FIRST_BLOCKS
    return times if left <= 0 else f"{' '.join(shown[:FIRST_BLOCKS])} and {left} more"


def _merges(phases: Sequence[PhaseProfile | None]) -> dict[str, str]:
    """The row in which one of them has an operation together with others, by the operation."""
    names = {op.name for phase in phases if phase for op in phase.ops if "+" in op.name}
    return {one: name for name in names for one in row_names(name)}


def _by_row(phase: PhaseProfile, merged: dict[str, str]) -> dict[str, float]:
    """Seconds of one call by operation, added up where the other has several in one row."""
    found: dict[str, float] = {}
    for op in phase.ops:
        name = merged.get(op.name, op.name)
        found[name] = found.get(name, 0.0) + op.time_s
    return found
