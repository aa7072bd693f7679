"""Notes on a record, one sentence each: conditions that limit the validity of its numbers."""

import torch

from llamalab.comparison.basis import weights_that_ran
from llamalab.formatting import format_bytes, format_si
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import device_of
from llamalab.measure.report.budget import Scale
from llamalab.records.record import NOT_LOOKED, Record


def notes_of(record: Record, device: torch.device) -> list[str]:
    """The notes of a finished record; empty where none applies."""
    notes = [
        *_untrusted(record),
        _slow_dtype(record, "gemm", "FLOP/s"),
        _slow_dtype(record, "stream", "B/s"),
        _cached_weights(record, effective_cache_bytes(device)),
        _busy(record),
        _throttled(record),
        unrecorded(device),
    ]
    return [note for note in notes if note]


def _untrusted(record: Record) -> list[str]:
    return [
        f"The {one.kind} roof for {one.dtype} is not trusted: {one.reason}." for one in record.roofs if not one.trusted
    ]


def _slow_dtype(record: Record, kind: str, unit: str) -> str | None:
    """A note on a dtype narrower than fp32 that is slower: it is emulated, or has no kernel."""
    ours, wide = record.roof(kind, record.dtype), record.roof(kind, "fp32")
    if record.dtype == "fp32" or ours is None or wide is None or not ours.per_second or not wide.per_second:
        return None
    # With half the bytes, an equal byte rate of the stream still halves the time.
    if ours.per_second >= wide.per_second * (0.5 if kind == "stream" else 1.0):
        return None
    return (
        f"{record.dtype} is slow on this machine: its {kind} roof is {format_si(ours.per_second, unit)}, "
        f"that of fp32 {format_si(wide.per_second, unit)}. All passes here are in {record.dtype}; in fp32 "
        f"{'prompts are read' if kind == 'gemm' else 'tokens are written'} faster."
    )


def _cached_weights(record: Record, last_level_bytes: int) -> str | None:
    weights = weights_that_ran(record)
    if weights > 2 * last_level_bytes:
        return None
    share = "stay" if weights <= last_level_bytes else f"stay to {last_level_bytes / weights:.0%} at most"
    return (
        f"The weights that ran, {format_bytes(weights)}, {share} in the cache of {format_bytes(last_level_bytes)}: "
        "decode may run faster than main memory."
    )


def _busy(record: Record) -> str | None:
    before, threads = record.environment.before, record.environment.threads
    if before is None or before.load_average is None:
        return None
    if before.load_average < 0.5 * threads:
        return None
    return f"The host was busy: its load was {before.load_average:.1f} on {threads} threads before the run began."


def _throttled(record: Record) -> str | None:
    states = [state for state in (record.environment.before, record.environment.after) if state is not None]
    reasons = sorted({reason for state in states for reason in state.throttle_reasons or ()})
    return f"The device was throttled: {', '.join(reasons)}." if reasons else None


def unrecorded(device: torch.device) -> str | None:
    """A note on a device that records no graphs, though others of its kind do."""
    refusal = device_of(device).graph_refusal
    if refusal is None:
        return None
    return (
        f"The device records no graphs ({refusal}): the cache's roof and attention calls were launched one by one, "
        "and short ones of them show their launches."
    )


def left_out(record: Record, scale: Scale) -> list[str]:
    """Parts that were shortened or left out for lack of time, a sentence each."""
    prefill = record.phase("prefill")
    few = [f"{run.phase} in {len(run.whole_s)}" for run in record.passes if len(run.whole_s) < scale.pass_plan.least]
    blind = [run.phase for run in record.passes if run.memory.method == NOT_LOOKED]
    notes = [
        f"The prompt was cut to {prefill.new_tokens} of {scale.prompt_tokens} tokens, as this machine is slow."
        if prefill.new_tokens < scale.prompt_tokens
        else "",
        f"There was time for few rounds: {', '.join(few)}; their intervals are wider." if few else "",
        f"There was no time to look at kernels and memory of {' and '.join(blind)}." if blind else "",
    ]
    return [note for note in notes if note]
