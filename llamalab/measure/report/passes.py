"""The measurement of one forward pass: clean times by part, times by op, memory and kernels.

Clean timing and the op-by-op pass run in the same rounds, with a pass without any tap, so that the cost of the taps is
measured too. Memory and kernels have passes of their own, apart from all timing.
B batch, T new tokens.
"""

from dataclasses import replace
from statistics import median
from typing import NamedTuple

import torch

from llamalab.measure.device.environment import read_telemetry
from llamalab.measure.device.machine import (
    clock_for,
    device_of,
    measure_peak,
)
from llamalab.measure.device.peak_memory import process_peak_bytes
from llamalab.measure.profile.observations import Observations, PhaseRun, observe
from llamalab.measure.profile.rows import OP_CLOCK, numbered, over_blocks, phase_profile
from llamalab.measure.target.blocks import Share
from llamalab.measure.target.target import Job, Target, target_of, tokens_of
from llamalab.measure.timing.deadline import Deadline, unlimited
from llamalab.measure.timing.op_clock import MARKS_READY, OpClock, model_part_of
from llamalab.measure.timing.profiler_ranges import SETUP
from llamalab.measure.timing.timer import Plan, median_error, paired_ratio, time_variants
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.packed import product_of
from llamalab.records.phase_profile import Energy, Instrument, PhaseProfile
from llamalab.records.record import NOT_LOOKED, BasisWord, MeasuredMemory, Measurement, Pass, Record

_TIMED_SHARE = 0.7  # share of a pass's time; the rest is for observed passes
_OBSERVED_PASSES = 8  # time of the observed passes, in clocked passes, which a profiler makes longer
_NO_ENERGY = "not measured in a report; llamalab profile measures it over 2 s and more"


class MeasuredModel(NamedTuple):
    """A model of the share's blocks with its cache, and the dtype's name."""

    model: Transformer
    cache: StaticKVCache
    share: Share
    dtype: str

    @property
    def kv_dtype(self) -> str | None:
        """The storage of the cache; None where it is in `dtype`."""
        return None if self.cache.dtype == self.dtype else self.cache.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.norm.weight.device

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights and cache."""
        return sum(weight.nbytes for weight in self.model.parameters()) + self.cache.nbytes


def measure_pass(
    bench: MeasuredModel,
    phase: str,
    plan: Plan,
    base: Record,
    *,
    new_tokens: int,
    past_tokens: int = 0,
    deadline: Deadline | None = None,
) -> tuple[Pass, PhaseProfile | None]:
    """Measure passes of `new_tokens` onto `past_tokens` that the cache already holds; `base` holds the roofs.

    With fewer rounds where passes are slow, to meet the deadline; without a profile where it leaves no time for one.
    """
    before, target, deadline = (
        read_telemetry(bench.device),
        target_of(bench.model, bench.kv_dtype),
        deadline or unlimited(),
    )
    plan = plan.within(deadline.part(_TIMED_SHARE))
    work, parts_s, ops_s, samples = _timed(bench, target, phase, plan, new_tokens, past_tokens)
    observed = observe(work) if deadline.fits(_OBSERVED_PASSES * median(samples["ops"])) else None
    ratios = {name: paired_ratio(samples[name], samples["whole"]) for name in ("parts", "ops")}
    profile = (
        None
        if observed is None
        else phase_profile(
            work,
            base,
            observed,
            samples["whole"],
            ops_s,
            keep_samples=False,
            before=before,
            after=read_telemetry(bench.device),
            energy=Energy(joules_per_token=None, reason=_NO_ENERGY),
            instruments=[
                Instrument(name="part clock", ratio=ratios["parts"], about="a timestamp after every block"),
                Instrument(name=OP_CLOCK, ratio=ratios["ops"], about="a timestamp at every point"),
            ],
        )
    )
    by_op = [{name: seconds for name, seconds in one.items() if name != SETUP} for one in over_blocks(ops_s)]
    measured = Pass(
        phase=phase,
        batch=work.batch,
        new_tokens=new_tokens,
        context_tokens=work.context_tokens,
        dtype=bench.dtype,
        kv_dtype=bench.kv_dtype,
        attention=bench.model.backend.name,
        algorithm=bench.model.backend.algorithm,
        kernel=observed and observed.kernel,
        layers_measured=bench.share.layers,
        layers_total=bench.share.layers_total,
        parts=_rows(parts_s, bench.share),
        ops=_rows(by_op, bench.share),
        memory=_memory(work, observed, bench),
        observer_ratio=ratios["ops"],
        whole_s=samples["whole"],
        product=product_of(bench.model),
    )
    error = median_error(samples["whole"])
    interval_s = [measured.total_s * (1 - min(error, 1.0)), measured.total_s * (1 + error)]
    return replace(measured, interval_s=interval_s), profile


def _timed(
    bench: MeasuredModel, target: Target, phase: str, plan: Plan, new_tokens: int, past_tokens: int
) -> tuple[PhaseRun, list[dict[str, float]], list[dict[str, float]], dict[str, list[float]]]:
    """The pass; seconds of its parts and of its operations in every round; and samples of the three variants."""
    cache = bench.cache
    tokens_BT = tokens_of(target.arch, cache.batch, new_tokens, bench.device)
    parts, ops = (
        OpClock(clock_for(bench.device, marks=MARKS_READY), rows) for rows in (model_part_of, numbered(target.label))
    )

    def run(tap: OpClock | None = None) -> object:
        if tap is not None:
            tap.start()
        return bench.model(tokens_BT, cache=cache, tap=tap, logits="last")

    def rewind() -> None:
        cache.rewind(past_tokens, lossy=True)

    def between() -> None:
        rewind()
        parts.settle()
        ops.settle()

    variants = {"whole": run, "parts": lambda: run(parts), "ops": lambda: run(ops)}
    samples = time_variants(variants, clock_for(bench.device), plan, before=between)
    rounds = len(samples["whole"])
    work = PhaseRun(
        target=target,
        job=Job(rewind, run, cache.nbytes),
        phase=phase,
        batch=cache.batch,
        new_tokens=new_tokens,
        past_tokens=past_tokens,
        layers_total=bench.share.layers_total,
    )
    return work, parts.read()[-rounds:], ops.read()[-rounds:], samples  # without the warm-up passes


def _memory(work: PhaseRun, observed: Observations | None, bench: MeasuredModel) -> MeasuredMemory:
    """The peak from the traced allocator events, or from the allocator's own counter where it has one."""
    if observed is None:
        return MeasuredMemory(
            peak_bytes=None,
            method=NOT_LOOKED,
            resident_bytes=bench.resident_bytes,
            reason="there was no time left to look at memory",
        )

    def run() -> None:
        work.job.before()
        work.job.run()

    if not device_of(bench.device).counts_peak_in_trace():
        return measure_peak(run, bench.device, resident_bytes=bench.resident_bytes)
    return MeasuredMemory(
        peak_bytes=observed.memory.peak_bytes,
        method=observed.memory.method,
        resident_bytes=bench.resident_bytes,
        process_peak_bytes=process_peak_bytes(run),
        reason=observed.memory.reason,
    )


def _rows(passes: list[dict[str, float]], share: Share) -> list[Measurement]:
    """One row per name; a block's sample is the mean over the blocks of its pass."""
    whole = share.layers == share.layers_total
    rows = []
    for name in passes[0]:
        per_block = name == "block" or name.startswith("layers.")
        basis: BasisWord = "extrapolated" if per_block and not whole else "measured"
        samples = [one[name] / (share.layers if per_block else 1) for one in passes]
        rows.append(
            Measurement(name=name, samples_s=samples, count=share.layers_total if per_block else 1, basis=basis)
        )
    return rows
