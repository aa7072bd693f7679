"""Roofs raised to the best measured rate, passes included, so that no measurement exceeds its roof.

A probe may have run on a busy machine, and an operation whose weights or activations come from a cache exceeds a roof
of memory. The operation that exceeded a roof is named, and its rate becomes the roof: no share is above 100 %.
"""

from collections.abc import Iterator
from dataclasses import replace

from llamalab.analytic.op import add_up
from llamalab.analytic.roofline import moved_bytes
from llamalab.comparison.basis import (
    bandwidth_dtype,
    roof_fault,
    roof_kinds,
    weight_roof_dtype,
    weight_roof_kind,
    weights_that_ran,
)
from llamalab.comparison.pass_ops import ops_of
from llamalab.formatting import format_bytes, format_si
from llamalab.records.record import Pass, Record
from llamalab.records.roof import Roof
from llamalab.startup.hints import NamedTuple

_WHOLE_PASS = "the whole pass"
_UNITS = {"gemm": "FLOP/s", "attention": "FLOP/s"}


class Above(NamedTuple):
    """The operation or phase that exceeded a roof, and its rate, FLOP/s or byte/s."""

    kind: str
    dtype: str
    name: str
    phase: str
    per_second: float


def above(record: Record) -> list[Above]:
    """The fastest above each trusted roof, in the order of the roofs; empty where all are below."""
    found: dict[tuple[str, str], Above] = {}
    for run in record.passes:
        for one in _reached(record, run):
            roof, key = record.roof(one.kind, one.dtype), (one.kind, one.dtype)
            if roof is None or roof.per_second is None or roof_fault(one.kind, one.dtype, roof) is not None:
                continue
            if one.per_second > max(roof.per_second, found[key].per_second if key in found else 0.0):
                found[key] = one
    return [found[roof.kind, roof.dtype] for roof in record.roofs if (roof.kind, roof.dtype) in found]


def hold_roofs(record: Record) -> Record:
    """The record with every exceeded roof raised; the same record where none is exceeded."""
    found = {(one.kind, one.dtype): one for one in above(record)}
    if not found:
        return record
    return replace(record, roofs=[_raised(roof, found.get((roof.kind, roof.dtype))) for roof in record.roofs])


def raised_sentence(record: Record, roof: Roof) -> str:
    """The operation that raised a roof, with the likely reason; empty for a roof from a probe."""
    if roof.raised_by is None or roof.per_second is None or roof.probed_per_second is None:
        return ""
    unit = _UNITS.get(roof.kind, "B/s")
    weights, cache = weights_that_ran(record), record.roof("cache", roof.dtype)
    reason = "the machine was slower when its roofs were looked for"
    if unit == "B/s" and cache is not None and cache.capacity_bytes:
        size = format_bytes(cache.capacity_bytes)
        if roof.kind == "stream" and weights <= 4 * cache.capacity_bytes:
            reason = f"of its weights, {format_bytes(weights)} in all, some come from the cache of {size}"
        elif roof.kind in ("copy", "cache"):
            reason = f"what it reads was just written, and comes from a cache closer than the one of {size}"
    return (
        f"{roof.raised_by.removeprefix('layers.*.')} reached {format_si(roof.per_second, unit)} where probes of the "
        f"{roof.kind} roof reached {format_si(roof.probed_per_second, unit)}, and is the roof now: {reason}"
    )


def _reached(record: Record, run: Pass) -> Iterator[Above]:
    """The rates of a pass and of all its operations, each under the roof that holds for it."""
    ops = ops_of(record, run)
    seconds = {one.name: one.median_s for one in run.ops}
    for op in ops:
        if time_s := seconds.get(op.name):
            peak, bandwidth = roof_kinds(record, op, run.dtype)
            if peak is not None:
                yield Above(peak, run.dtype, op.name, run.phase, op.flops_causal / time_s)
            yield Above(
                bandwidth,
                bandwidth_dtype(record, op, bandwidth, run.dtype),
                op.name,
                run.phase,
                moved_bytes(op) / time_s,
            )
    if run.parts and run.total_s:
        totals = add_up(ops)
        yield Above("gemm", run.dtype, _WHOLE_PASS, run.phase, totals.flops_causal / run.total_s)
        kind = weight_roof_kind(record, run.dtype)
        yield Above(kind, weight_roof_dtype(record, run.dtype), _WHOLE_PASS, run.phase, totals.bytes / run.total_s)


def _raised(roof: Roof, one: Above | None) -> Roof:
    if one is None:
        return roof
    probed = roof.per_second if roof.probed_per_second is None else roof.probed_per_second
    return replace(roof, per_second=one.per_second, raised_by=f"{one.name} in {one.phase}", probed_per_second=probed)
