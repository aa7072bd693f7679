"""The passes of a profile together: one row per operation, and whether the rows add up."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

from llamalab.analytic.op import rows_named
from llamalab.comparison.basis import basis_of
from llamalab.comparison.passes import Phase, Row
from llamalab.instrument.selection import layer_of
from llamalab.measure.device.energy import usage
from llamalab.measure.profile.kernel_times import Busy
from llamalab.measure.profile.observations import Observations, PhaseRun
from llamalab.measure.timing.profiler_ranges import SETUP, Label, starred
from llamalab.model.packed import product_of
from llamalab.records.phase_profile import Energy, Instrument, OpProfile, PhaseProfile, Telemetry
from llamalab.records.record import MeasuredMemory, Measurement, Pass, Record

CLOSES = 0.05
OP_CLOCK = "op clock"


def phase_profile(
    work: PhaseRun,
    base: Record,
    observed: Observations,
    wall_s: list[float],
    clocked: list[dict[str, float]],
    *,
    instruments: list[Instrument],
    before: Telemetry,
    after: Telemetry,
    energy: Energy,
    keep_samples: bool = True,
) -> PhaseProfile:
    """Join clean times, times by operation, kernels and memory to the profile of a phase.

    Args:
        work: the phase that ran.
        base: a record that holds the roofs.
        observed: what the passes under instruments showed.
        wall_s: seconds of clean passes.
        clocked: seconds of every operation of every block, by pass.
        instruments: those that made the times, with their cost.
        before: the device's state before the passes.
        after: and after them.
        energy: of a token.
        keep_samples: False keeps medians alone, for a record whose passes have the samples.
    """
    wall, kind = median(wall_s), work.target.kind
    ops, outside = ops_and_outside(clocked, work.layers)
    named, outside_s = sum(median(samples) * calls for samples, calls in ops.values()), median(outside)
    closure = (named + outside_s) / wall - 1
    rows = _rows(work, base, observed, wall_s, ops, medians_by_block(clocked))
    return PhaseProfile(
        phase=work.phase,
        batch=work.batch,
        new_tokens=work.new_tokens,
        context_tokens=work.context_tokens,
        layers_measured=work.layers,
        layers_total=work.layers_total,
        kernel=observed.kernel,
        wall_s=wall,
        wall_samples_s=wall_s if keep_samples else [],
        named_s=named,
        outside_s=outside_s,
        outside="the turns of RoPE, once per pass" + (", and masks" if kind != "llamalab" else ""),
        closure=closure,
        missing=missing_time(closure, kind),
        ops=rows if keep_samples else [replace(row, samples_s=[]) for row in rows],
        memory=observed.memory,
        instruments=[
            *instruments,
            Instrument(name="profiler", ratio=observed.ranged_s / wall, about="ranges, kernels; one pass"),
            Instrument(name="memory", ratio=observed.memory_s / wall, about="allocator events; one pass"),
        ],
        before=before,
        during=observed.during,
        after=after,
        throttled=throttle_reasons(before, observed.during, after),
        energy=energy,
        usage=usage(work.target.device),
    )


def _rows(
    work: PhaseRun,
    base: Record,
    observed: Observations,
    wall_s: list[float],
    ops: dict[str, tuple[list[float], int]],
    depth: dict[str, list[float]],
) -> list[OpProfile]:
    """The measured operations with their rows of the cost table and their predictions."""
    target = work.target
    measured = [
        Measurement(name=name, samples_s=samples, count=work.layers_total if "*" in name else 1)
        for name, (samples, _) in ops.items()
    ]
    run = Pass(
        phase=work.phase,
        batch=work.batch,
        new_tokens=work.new_tokens,
        context_tokens=work.context_tokens,
        dtype=target.dtype,
        kv_dtype=target.kv_dtype,
        attention=target.attention,
        algorithm=target.algorithm,
        kernel=observed.kernel,
        layers_measured=work.layers,
        layers_total=work.layers_total,
        parts=[],
        ops=measured,
        ranks=target.ranks,
        product=product_of(target.model),
        memory=MeasuredMemory(peak_bytes=observed.memory.peak_bytes, method=observed.memory.method),
        whole_s=wall_s,
    )
    table = {row.op.name: row for row in Phase(base, run, basis_of(base)).rows}
    total = sum(one.median_s * one.count for one in measured)
    return [
        op_profile(
            one,
            list(rows_named(one.name, table)),
            observed.busy.get(one.name),
            depth.get(one.name, []),
            work.layers,
            total,
        )
        for one in measured
    ]


def op_profile(
    one: Measurement, rows: list[Row], busy: Busy | None, layers_s: list[float], layers: int, total_s: float
) -> OpProfile:
    """One row; a merged one adds up the table's rows that are in it."""
    time_s, whole_s = one.median_s, one.median_s * one.count
    flops, moved = sum(row.op.flops_causal for row in rows), sum(row.op.bytes for row in rows)
    predictions = [row.prediction for row in rows if row.prediction is not None]
    complete = len(predictions) == len(rows) > 0
    predicted_s = sum(prediction.time_s for prediction in predictions) if complete else None
    # An operation faster than the measured roof becomes the roof.
    bound_s = min(time_s, sum(prediction.bound_s for prediction in predictions)) if complete else None
    device_s = None if busy is None else busy.device_s_in(time_s)
    return OpProfile(
        name=one.name,
        calls=layers if "*" in one.name else 1,
        count=one.count,
        time_s=time_s,
        total_s=whole_s,
        share=whole_s / total_s,
        device_s=device_s,
        gap_s=None if device_s is None else time_s - device_s,
        flops=flops,
        bytes=moved,
        flops_per_s=flops / time_s,
        bytes_per_s=moved / time_s,
        roof_fraction=None if bound_s is None else bound_s / time_s,
        predicted_s=predicted_s,
        error=None if predicted_s is None else predicted_s / time_s - 1,
        kernels=busy.kernels if busy else [],
        samples_s=one.samples_s,
        layers_s=layers_s,
        reason=next((row.reason for row in rows if row.prediction is None), None),
    )


def numbered(label: Label) -> Callable[[str], str | None]:
    """Points to rows of the cost table with the layer's number in them."""

    def row_of(point: str) -> str | None:
        row, layer = label(point), layer_of(point)
        return row if row is None or layer is None else row.replace("*", str(layer))

    return row_of


def over_blocks(clocked: list[dict[str, float]]) -> list[dict[str, float]]:
    """The seconds of each row of the cost table in every pass, summed over the blocks.

    >>> over_blocks([{"layers.0.ffn_norm": 1.0, "layers.1.ffn_norm": 2.0, "output": 4.0}])
    [{'layers.*.ffn_norm': 3.0, 'output': 4.0}]
    """
    passes = []
    for one in clocked:
        rows: dict[str, float] = {}
        for name, seconds in one.items():
            rows[starred(name)] = rows.get(starred(name), 0.0) + seconds
        passes.append(rows)
    return passes


def medians_by_block(clocked: list[dict[str, float]]) -> dict[str, list[float]]:
    """The median of each block, first to last, by row of the cost table; rows of no block are left out.

    >>> medians_by_block([{"layers.0.ffn_norm": 1.0, "layers.1.ffn_norm": 2.0, "output": 4.0}])
    {'layers.*.ffn_norm': [1.0, 2.0]}
    """
    rows: dict[str, list[float]] = {}
    for name in clocked[0]:
        if layer_of(name) is not None:
            rows.setdefault(starred(name), []).append(median(one[name] for one in clocked))
    return rows


def ops_and_outside(
    clocked: list[dict[str, float]], layers: int
) -> tuple[dict[str, tuple[list[float], int]], list[float]]:
    """Samples and number of occurrences, by row; and seconds of each pass outside of all rows."""
    passes = over_blocks(clocked)
    ops = {
        name: ([one[name] / (layers if "*" in name else 1) for one in passes], layers if "*" in name else 1)
        for name in passes[0]
        if name != SETUP
    }
    return ops, [one.get(SETUP, 0.0) for one in passes]


def missing_time(closure: float, kind: str) -> str | None:
    """Why the rows do not add up to the pass; None where they do."""
    if abs(closure) <= CLOSES:
        return None
    if closure > 0:
        return (
            f"the operations add up to {closure:.0%} more than a clean pass: the timestamps, or other work on "
            "the machine, slowed them; the times of short operations are too long by that"
        )
    where = "hooks and modules of transformers" if kind != "llamalab" else "the end of the pass, after the logits"
    return f"{-closure:.0%} of a clean pass is in no operation: it is spent in {where}, or the machine was uneven"


def throttle_reasons(*states: Telemetry) -> list[str] | None:
    """Every throttle cause active at one of the moments; None where the device does not report them."""
    reasons = [state.throttle_reasons for state in states]
    if any(one is None for one in reasons):
        return None
    return sorted({reason for one in reasons for reason in one or ()})
