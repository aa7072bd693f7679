"""Records as tidy pandas DataFrames: one row an operation, sample or pass, units in the column names, basis a column.

pandas is imported when a frame is made, so that reading records starts without it.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llamalab.errors import FormatError, InputError
from llamalab.files.inputs import parse_json
from llamalab.records.peers import runs_of_text
from llamalab.records.profile import Profile, are_profiles, profiles_from_json
from llamalab.records.record import Measurement, Pass, Record
from llamalab.records.record_json import record_from_json, shown_text
from llamalab.records.run_frames import run_frames
from llamalab.records.tables import frame_of_rows

if TYPE_CHECKING:
    from pandas import DataFrame

_PHASE_KEYS = ("batch", "new_tokens", "context_tokens", "wall_s", "named_s", "outside_s", "closure", "kernel")
_PASS_KEYS = ("phase", "batch", "new_tokens", "context_tokens", "dtype", "attention", "algorithm", "kernel")


def frames(source: "str | os.PathLike[str] | Record | Profile | Sequence[Profile]") -> "dict[str, DataFrame]":
    """A record, a profile, a bench, a comparison, another tool's result, or the file or page of one, as DataFrames.

    Of a record: `passes` (a row a pass), `parts` and `ops` (a row a part or an operation of a pass), `samples` (a row
    a sample of either), `roofs` and `attention`; of a profile `phases`, `ops` and `memory`; of a bench `tests` and
    `samples`; of a comparison `phases` and `ops`; of what another tool wrote `phases`, `ops` and `samples`. Times are
    seconds of one occurrence; `total_s` is of all. Raises MissingError where there is no file, FormatError where it is
    none of these.

    >>> import llamalab
    >>> frames = llamalab.frames("reports/example-7b-cpu.json")
    >>> sorted(frames), list(frames["passes"].phase)
    (['attention', 'ops', 'parts', 'passes', 'roofs', 'samples'], ['prefill', 'decode'])
    """
    if isinstance(source, str | os.PathLike):
        return _frames_of_text(shown_text(source, "record, profile, bench or comparison"), os.fspath(source))
    if isinstance(source, Record):
        return _record_frames(source)
    if isinstance(source, Profile):
        return _profile_frames([source])
    profiles = [one for one in source if isinstance(one, Profile)] if isinstance(source, Sequence) else []
    if profiles and len(profiles) == len(source):
        return _profile_frames(profiles)
    raise InputError(f"frames must be made of a record, profiles or a path to them; got {type(source).__name__}")


def _frames_of_text(text: str, name: str) -> "dict[str, DataFrame]":
    if are_profiles(text):
        return _profile_frames(profiles_from_json(text, source=name))
    if rows := bench_rows(text):
        return _bench_frames(rows)
    data = parse_json(text, name) if text.lstrip().startswith("{") else None
    if isinstance(data, dict) and "comparisons" in data:
        return _comparison_frames(data["comparisons"], name)
    if isinstance(data, dict) and "passes" in data:
        return _record_frames(record_from_json(text, source=name))
    return run_frames(runs_of_text(text, name))


def bench_rows(text: str) -> list[dict[str, Any]]:
    """The rows of `llamalab bench` in JSON or JSON lines; none for other text."""
    try:
        data = json.loads(text)
        rows = data.get("rows", [data]) if isinstance(data, dict) else []
    except ValueError:
        try:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            return []
    if not isinstance(rows, list):
        return []
    known = [row for row in rows if isinstance(row, dict) and {"passes_s", "test", "depth_tokens"} <= row.keys()]
    return known if len(known) == len(rows) else []


def _bench_frames(rows: list[dict[str, Any]]) -> "dict[str, DataFrame]":
    """A row a test, and a row a forward pass."""
    tests = [{key: value for key, value in row.items() if key != "passes_s"} for row in rows]
    samples = [
        {"model": row.get("model"), "test": row["test"], "batch": row.get("batch"), "repetition": repetition}
        | {"pass": number, "time_s": seconds, "basis": row.get("basis")}
        for row in rows
        for repetition, passes in enumerate(row["passes_s"])
        for number, seconds in enumerate(passes)
    ]
    return {"tests": frame_of_rows(tests), "samples": frame_of_rows(samples)}


def _comparison_frames(comparisons: Any, name: str) -> "dict[str, DataFrame]":
    """A row a phase, and a row an operation of it, of every run against the first."""
    try:
        phases = [{"b": one["letter"], **phase} for one in comparisons for phase in one["phases"]]
        ops = [{"b": phase["b"], **op} for phase in phases for op in phase["ops"]]
    except (KeyError, TypeError) as error:
        raise FormatError(f"{name} must be what llamalab compare prints; {error} is missing or wrong") from None
    whole = [{key: value for key, value in phase.items() if key != "ops"} for phase in phases]
    return {"phases": frame_of_rows(whole), "ops": frame_of_rows(ops)}


def _record_frames(record: Record) -> "dict[str, DataFrame]":
    rows: dict[str, list[dict[str, Any]]] = {"passes": [], "parts": [], "ops": [], "samples": []}
    for one in record.passes:
        shared = {"model": record.model, **{key: getattr(one, key) for key in _PASS_KEYS}}
        tokens = one.batch * one.new_tokens
        rows["passes"].append(
            shared
            | {"time_s": one.total_s, "tokens_per_s": tokens / one.total_s if one.total_s else None}
            | {"layers_measured": one.layers_measured, "layers_total": one.layers_total}
            | {"peak_bytes": one.memory.peak_bytes, "basis": one.basis}
        )
        for kind, measurements in (("parts", one.parts), ("ops", one.ops)):
            for measurement in measurements:
                rows[kind].append(shared | _measured(measurement, one))
                rows["samples"] += [
                    {"model": record.model, "phase": one.phase, "of": kind, "name": measurement.name, "sample": number}
                    | {"time_s": seconds, "basis": "measured"}
                    for number, seconds in enumerate(measurement.samples_s)
                ]
    rows["roofs"] = [_plain(roof) | {"basis": "measured"} for roof in record.roofs]
    rows["attention"] = [_plain(point) | {"basis": "measured"} for point in record.attention]
    return {name: frame_of_rows(found) for name, found in rows.items()}


def _measured(measurement: Measurement, one: Pass) -> dict[str, Any]:
    low, high = measurement.quartiles_s
    basis = measurement.basis if one.layers_measured == one.layers_total or measurement.count == 1 else "extrapolated"
    return {
        "name": measurement.name,
        "count": measurement.count,
        "time_s": measurement.median_s,
        "quartile_1_s": low,
        "quartile_3_s": high,
        "total_s": measurement.median_s * measurement.count,
        "samples": len(measurement.samples_s),
        "op_kernel": measurement.kernel,
        "basis": basis,
    }


def _profile_frames(profiles: Sequence[Profile]) -> "dict[str, DataFrame]":
    phases, ops, memory = [], [], []
    for profile in profiles:
        for phase in profile.phases:
            shared = {"model": profile.model, "kind": profile.kind, "phase": phase.phase}
            basis = "measured" if phase.layers_measured == phase.layers_total else "extrapolated"
            phases.append(
                shared
                | {name: getattr(phase, name) for name in _PHASE_KEYS}
                | {"peak_bytes": phase.memory.peak_bytes, "basis": "measured"}
            )
            ops += [shared | _plain(op) | {"basis": basis} for op in phase.ops]
            memory += [shared | _plain(moment) | {"basis": "measured"} for moment in phase.memory.timeline]
    if not phases:
        raise FormatError("a profile must have a phase; there is none; measure anew")
    return {"phases": frame_of_rows(phases), "ops": frame_of_rows(ops), "memory": frame_of_rows(memory)}


def _plain(one: Any) -> dict[str, Any]:
    """The scalar fields of a dataclass; a list of names is one cell, samples are left out."""
    cells = {name: value for name, value in dataclasses.asdict(one).items() if name not in ("samples_s", "layers_s")}
    return {name: "; ".join(map(str, value)) if isinstance(value, list) else value for name, value in cells.items()}
