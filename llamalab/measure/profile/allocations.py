"""Memory over one pass, by operation and category: the allocator's events matched to the operations' ranges.

Categories of what a pass allocates, above the weights and the cache that were there before it:
    logits       made by the head
    workspace    made and released inside one operation
    KV           made by attention and still alive when the pass is over: a cache that grows
    activations  all else
Events come from the device (llamalab.measure.device).
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from llamalab.analytic.activations import live_steps
from llamalab.analytic.op import STEPS, Op, rows_named
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.instrument.selection import layer_of
from llamalab.measure.device.base import AllocatorEvent
from llamalab.measure.timing.profiler_ranges import SETUP, Span, starred
from llamalab.records.phase_profile import Holding, MemoryMoment, MemoryProfile, StepMemory

MEMORY_CATEGORIES = ("kv", "activation", "logits", "workspace")


class _Block(NamedTuple):
    taken: int  # index of the event that took it
    given: int | None  # and of its release
    bytes: int
    op: str
    category: str


def memory_profile(
    events: Sequence[AllocatorEvent],
    spans: Sequence[Span],
    *,
    method: str,
    weight_bytes: int,
    kv_bytes: int,
    predicted: dict[str, int],
    ops: Iterable[Op],
) -> MemoryProfile:
    """Match the events to `ops`, the cost table of the pass. Allocations from before the pass are not included.

    Raises UnknownNameError for a span of an operation that the table does not have.

    Args:
        events: allocations and releases, in the order of time.
        spans: when each operation ran.
        method: how the events were recorded.
        weight_bytes: bytes of weights, held all the time.
        kv_bytes: bytes of the KV cache, held all the time.
        predicted: bytes by step of attention, of the cost model.
        ops: the cost table of the pass.
    """
    table = {op.name: op for op in ops}
    blocks = _blocks(events, spans, table)
    if not blocks or not spans:
        reason = "the allocator reported no event of this pass"
        return MemoryProfile(
            method=method,
            weight_bytes=weight_bytes,
            kv_bytes=kv_bytes,
            peak_bytes=None,
            peak_op=None,
            timeline=[],
            at_peak=[],
            steps=[],
            reason=reason,
        )
    changes: dict[int, _Block] = {}
    for block in blocks:
        changes[block.taken] = block
        if block.given is not None:
            changes[block.given] = block
    timeline, peak_at = _follow(changes, events, spans)
    held: dict[tuple[str, str], int] = {}
    for block in blocks:
        if block.taken <= peak_at and (block.given is None or block.given > peak_at):
            held[block.op, block.category] = held.get((block.op, block.category), 0) + block.bytes
    at_peak = [Holding(op=op, category=kind, bytes=size) for (op, kind), size in held.items()]
    at_peak.sort(key=lambda one: -one.bytes)
    return MemoryProfile(
        method=method,
        weight_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        peak_bytes=sum(one.bytes for one in at_peak),
        peak_op=_op_at(events[peak_at].at_ns, spans),
        timeline=_unlike(timeline),
        at_peak=at_peak,
        steps=_steps(timeline, predicted, table),
    )


def predicted_steps(arch: LlamaArch, shape: PassShape) -> dict[str, int]:
    """Predicted live bytes of each step, by its name; the shape's attention is a name that memory_of returns."""
    return {step.step: step.bytes for step in live_steps(arch, shape)}


def _blocks(events: Sequence[AllocatorEvent], spans: Sequence[Span], table: Mapping[str, Op]) -> list[_Block]:
    """Pair allocations with releases; releases of older memory have no partner and are left out."""
    open_at: dict[int, int] = {}
    pairs: dict[int, int | None] = {}
    for index, event in enumerate(events):
        if event.bytes > 0:
            open_at[event.address] = index
            pairs[index] = None
        elif event.bytes < 0 and event.address in open_at:
            pairs[open_at.pop(event.address)] = index
    blocks = []
    for taken, given in pairs.items():
        op = _op_at(events[taken].at_ns, spans)
        last = None if given is None else _op_at(events[given].at_ns, spans)
        blocks.append(_Block(taken, given, events[taken].bytes, op, _category(op, last, _rows(op, table))))
    return blocks


def _category(op: str, released_in: str | None, rows: Sequence[Op]) -> str:
    if any(row.step == "logits" for row in rows):
        return "logits"
    if released_in == op:
        return "workspace"
    return "kv" if released_in is None and any(row.mode == "append" for row in rows) else "activation"


def _follow(
    changes: dict[int, _Block], events: Sequence[AllocatorEvent], spans: Sequence[Span]
) -> tuple[list[MemoryMoment], int]:
    """The largest moment of every operation, in order, and the event after which most bytes were live."""
    alive, peak, peak_at = dict.fromkeys(MEMORY_CATEGORIES, 0), -1, 0
    largest: dict[str, tuple[int, dict[str, int]]] = {}
    order = {span.name: None for span in spans}
    for index in sorted(changes):
        block = changes[index]
        alive[block.category] += block.bytes if index == block.taken else -block.bytes
        op, total = _op_at(events[index].at_ns, spans), sum(alive.values())
        if op in order and total > largest.get(op, (-1, alive))[0]:
            largest[op] = (total, dict(alive))
        if total > peak:
            peak, peak_at = total, index
    timeline = [
        MemoryMoment(op=op, **{f"{kind}_bytes": size for kind, size in largest[op][1].items()})
        for op in order
        if op in largest
    ]
    return timeline, peak_at


def _unlike(timeline: Sequence[MemoryMoment]) -> list[MemoryMoment]:
    """The timeline without blocks whose live bytes equal those of the block before, operation by operation."""
    blocks: dict[int | None, list[MemoryMoment]] = {}
    for moment in timeline:
        blocks.setdefault(layer_of(moment.op), []).append(moment)
    alike = {
        layer
        for layer, own in blocks.items()
        if layer
        and [replace(one, op=starred(one.op)) for one in own]
        == [replace(one, op=starred(one.op)) for one in blocks.get(layer - 1, [])]
    }
    return [moment for moment in timeline if layer_of(moment.op) not in alike]


def _op_at(at_ns: int, spans: Sequence[Span]) -> str:
    """The operation that ran at a moment: each begins where the one before ends."""
    index = bisect_right(spans, at_ns, key=lambda span: span.start_ns) - 1
    return spans[max(0, index)].name


def _steps(timeline: Sequence[MemoryMoment], predicted: dict[str, int], table: Mapping[str, Op]) -> list[StepMemory]:
    """The most live bytes of each step over all blocks, excluding a cache that grows in the pass."""
    largest: dict[str, int] = {}
    for moment in timeline:
        step = _step_of(_rows(moment.op, table))
        largest[step] = max(largest.get(step, 0), moment.total_bytes - moment.kv_bytes)
    found = []
    for step in filter(largest.__contains__, filter(None, STEPS)):
        measured, expected = largest[step], predicted.get(step)
        error = expected / measured - 1 if expected is not None and measured else None
        found.append(StepMemory(step=step, measured_bytes=measured, predicted_bytes=expected, error=error))
    return found


def _step_of(rows: Sequence[Op]) -> str:
    """The step of a range: that of its last row, when most outputs of the others are live."""
    return rows[-1].step if rows else ""


def _rows(op: str, table: Mapping[str, Op]) -> tuple[Op, ...]:
    """The rows of the cost table that ran in a range; none in the range of once-only work."""
    return () if op == SETUP else rows_named(starred(op), table)
