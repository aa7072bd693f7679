"""A trace of PyTorch's profiler (Chrome's trace event format): time by kernel on a device, by operator on a CPU.

On a GPU the time is that of its kernels. On a CPU operators nest: each counts by self time.
Where steps were marked (ProfilerStep#N) a phase is the steps of one shape: its time is from mark to mark, its samples
are the steps. Where shapes were recorded, those of attention give tokens and sequences of a pass.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from llamalab.records.peers.trace_events import AttentionCall, TraceEvents, Window, step_of
from llamalab.records.peers.trace_file import scan_trace
from llamalab.records.run import OpTime, Run, RunPhase

TOOL = "a torch profiler"
WHAT_RAN = "llamalab"  # the key under which llamalab profile writes model and shape of its trace
_US = 1e-6


class _Shape(NamedTuple):
    """The passes of a step: sequences and new tokens of each, and the resulting phase."""

    kind: str
    batch: int
    new_tokens: int


def recognises(data: Any) -> bool:
    """Whether it is a list of trace events."""
    return isinstance(data, dict) and isinstance(data.get("traceEvents"), list)


def read(data: Any, name: str) -> list[Run]:
    """One run, a phase for each shape of its steps."""
    events = TraceEvents()
    for event in data["traceEvents"]:
        events.take(event)
    return [_run(events, data, name)]


def read_file(path: str | os.PathLike[str]) -> list[Run]:
    """As read, for a file that may exceed memory. Raises FormatError for a truncated one."""
    events = TraceEvents()
    beside = scan_trace(path, events.take)
    return [_run(events, beside, os.fspath(path))]


def _run(events: TraceEvents, beside: dict[str, Any], name: str) -> Run:
    ran = beside.get(WHAT_RAN) or {}
    devices = beside.get("deviceProperties") or [{}]
    about = {
        "model": ran.get("model"),
        "device": ran.get("device") or devices[0].get("name"),
        "dtype": ran.get("dtype") or events.dtype,
    }
    if ran:
        return Run(name, TOOL, (_phase_of_own_trace(events, ran),), {"blocks": ran["blocks"]}, **about)
    marks = sorted(events.host_steps.items(), key=lambda mark: mark[1])
    windows = [window for _, window in marks]
    steps = [events.device_steps.get(mark, window) for mark, window in marks]
    # Kernels run after their launch on the host: without marks on the device they cannot be assigned to steps.
    known = bool(steps) and (not events.kernels or len(events.device_steps) == len(steps))
    times = _op_times(events, steps if known else None)
    phases = []
    for shape, places in _groups(events, windows).items():
        calls = [call for call in events.calls if not windows or step_of(windows, call.begin) in places]
        samples = tuple((steps[place].end - steps[place].begin) * _US for place in places) if steps else ()
        ops = _ops(times, places if known else [0], 1 if known else max(1, len(steps)))
        phases.append(_phase(shape, calls, samples, ops, len(places)))
    return Run(name, TOOL, _named(phases), {"steps": max(1, len(steps))}, **about)


def _phase_of_own_trace(events: TraceEvents, ran: dict[str, Any]) -> RunPhase:
    """The pass of a trace of llamalab profile, which states it."""
    ops = _ops(_op_times(events, None), [0], 1)
    total_s, blocks = sum(op.total_s for op in ops), int(ran["blocks"])
    part = blocks if blocks != ran["layers_total"] else None
    shape = (int(ran["batch"]), int(ran["new_tokens"]), int(ran["context_tokens"]))
    return RunPhase(str(ran["phase"]), str(ran["phase"]), total_s, (), *shape, ops, blocks=part)


def _groups(events: TraceEvents, windows: Sequence[Window]) -> dict[_Shape | None, list[int]]:
    """Numbers of the steps by the shape of their passes; one step without marks, None where shapes are unknown."""
    if not windows:
        return {_shape(events.calls, events.backward): [0]}
    if events.kernels and len(events.device_steps) != len(windows):  # only the times of all steps together are known
        return {_shape(events.calls, events.backward): list(range(len(windows)))}
    inside: list[list[AttentionCall]] = [[] for _ in windows]
    for call in events.calls:
        if (place := step_of(windows, call.begin)) is not None:
            inside[place].append(call)
    groups: dict[_Shape | None, list[int]] = {}
    for place, calls in enumerate(inside):
        groups.setdefault(_shape(calls, events.backward), []).append(place)
    return groups


def _shape(calls: Sequence[AttentionCall], backward: bool) -> _Shape | None:
    """The shape of all passes; None for several shapes, for unknown ones, and for training."""
    shapes = {(call.batch, call.new_tokens) for call in calls}
    if len(shapes) != 1 or backward:
        return None
    ((batch, new),) = shapes
    return _Shape("decode" if new == 1 else "prefill", batch, new)


def _op_times(events: TraceEvents, steps: Sequence[Window] | None) -> dict[str, list[float]]:
    """Seconds by name in each step, or in total without steps."""
    spans = events.kernels.whole() if events.kernels else events.operators.own()
    count = len(steps) if steps else 1
    times: dict[int, list[float]] = {}
    for begin, name, length in spans:
        place = step_of(steps, begin) if steps else 0
        if place is not None:
            times.setdefault(name, [0.0] * count)[place] += length * _US
    names = events.names
    return {names[number]: seconds for number, seconds in times.items()}


def _ops(times: dict[str, list[float]], places: Sequence[int], share: int) -> tuple[OpTime, ...]:
    ops = []
    for name, seconds in times.items():
        samples = tuple(seconds[place] / share for place in places)
        total_s = sum(samples) / len(samples)
        if total_s > 0:
            several = samples if len(samples) > 1 and min(samples) > 0 else ()
            ops.append(OpTime(name, total_s, several, kernel=name))
    return tuple(ops)


def _phase(
    shape: _Shape | None,
    calls: Sequence[AttentionCall],
    samples: tuple[float, ...],
    ops: tuple[OpTime, ...],
    steps: int,
) -> RunPhase:
    total_s = sum(samples) / len(samples) if samples else sum(op.total_s for op in ops)
    if shape is None:
        return RunPhase("step" if samples else "trace", "other", total_s, samples, ops=ops, calls=len(calls) or None)
    context = max(call.context_tokens for call in calls)
    return RunPhase(
        name=shape.kind,
        kind=shape.kind,
        total_s=total_s,
        samples_s=samples,
        batch=shape.batch,
        new_tokens=shape.new_tokens,
        context_tokens=context,
        ops=ops,
        calls=len(calls) // steps,
    )


def _named(phases: Sequence[RunPhase]) -> tuple[RunPhase, ...]:
    """Phases with times; several of one kind are named by their shape."""
    kinds = [phase.kind for phase in phases]
    return tuple(
        phase._replace(name=f"{phase.name} of {phase.batch} × {phase.new_tokens}")
        if kinds.count(phase.kind) > 1 and phase.new_tokens
        else phase
        for phase in phases
        if phase.ops or phase.samples_s
    )
