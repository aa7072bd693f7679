"""Where the time and the memory of a model go, operation by operation: clean passes, one instrument each.

    clean       wall time of the pass, no tap
    op clock    a timestamp at every point: time of every operation in place
    ranges      the profiler with a range per operation: kernels, device time, gaps
    memory      the allocator's events, laid over the same ranges

Clean passes and the op clock alternate in blocks, so that a slow moment affects both; the profiler and memory
passes are timed only to report their cost. A Hugging Face model is measured in the same way; everything between
its projections and the output of attention is one row, because it has no points in between.
"""

import dataclasses
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from llamalab.arch import LlamaArch
from llamalab.arch.positions import beyond_positions
from llamalab.choices import PHASES
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.bind import tapped
from llamalab.measure.device.energy import energy_per_token
from llamalab.measure.device.environment import environment, read_telemetry
from llamalab.measure.device.machine import clock_for, device_of
from llamalab.measure.profile.observations import PhaseRun, TraceWriter, observe
from llamalab.measure.profile.rows import OP_CLOCK, numbered, phase_profile
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.quick import quick_roofs
from llamalab.measure.target.target import Target, target_of
from llamalab.measure.timing.deadline import Deadline, ProgressCallback, part_of
from llamalab.measure.timing.op_clock import MARKS_READY, OpClock
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.model.packed import product_of
from llamalab.model.quantised.weights import kept_of
from llamalab.records.environment import Environment
from llamalab.records.phase_profile import Energy, Instrument, PhaseProfile
from llamalab.records.profile import Profile
from llamalab.records.record import Record, unmeasured

_ROOFS_DONE = 0.3  # share of the whole time, roughly
ALTERNATIONS = 3  # alternations of clean passes and op-clock passes
LIMIT_S = 60.0  # for the timed passes of all phases on a slow machine, where the caller gives no deadline


class PromptShape(NamedTuple):
    """A prompt, and the token after it; `layers_total` is the depth of the whole model.

    `context_tokens` of a pass, its own included, exceed the prompt where tokens precede it in the cache.
    """

    prompt_tokens: int
    batch: int = 1
    layers_total: int | None = None
    context_tokens: int | None = None


def longest(shape: PromptShape, phases: Sequence[str]) -> int:
    """Tokens that the longest of the passes has in view.

    >>> longest(PromptShape(512), ("prefill",)), longest(PromptShape(512), ("prefill", "decode"))
    (512, 513)
    """
    return shape.context_tokens or shape.prompt_tokens + ("decode" in phases)


def measure_profile(
    model: nn.Module,
    *,
    name: str = "model",
    phases: Sequence[str] = PHASES,
    prompt_tokens: int = 128,
    context_tokens: int | None = None,
    batch: int = 1,
    kv_dtype: str | None = None,
    layers_total: int | None = None,
    reference: Record | None = None,
    budget_s: float = 4.0,
    deadline: Deadline | None = None,
    command: str = "",
    trace: TraceWriter | None = None,
    progress: ProgressCallback = lambda label, done: None,
) -> Profile:
    """Profile a Transformer or a LlamaForCausalLM on its device.

    Args:
        model: the model, on the device where it is to be profiled.
        name: its name in the profile.
        phases: some of PHASES; `prefill` runs the prompt, `decode` the token after it.
        prompt_tokens: tokens of each sequence of the prompt.
        context_tokens: tokens in view at the end of each pass, its own included (default: the prompt's, and one more).
        batch: sequences.
        kv_dtype: storage of the KV cache of a Transformer (default: as its weights).
        layers_total: blocks of the whole model (default: those of `model`).
        reference: a record of this machine, whose roofs and constants predictions rest on (default: a short
            measurement of the roofs).
        budget_s: seconds for the timed passes of all phases; a few passes of each are timed in any case.
        deadline: when they are to be over, however few were timed (default: LIMIT_S from their beginning).
        command: the command line, for the profile.
        trace: called as `trace(work, profiler)` with the profiled pass of each phase.
        progress: called with the label of each step and the share that is done.

    Raises UnknownNameError for another phase, InputError for another kind of model.
    """
    for phase in phases:
        if phase not in PHASES:
            raise UnknownNameError("phase", phase, PHASES)
    if prompt_tokens < 1 or batch < 1:
        raise InputError(f"prompt_tokens and batch must be at least 1; got {prompt_tokens} and {batch}")
    if context_tokens is not None and context_tokens < (prompt_tokens if "prefill" in phases else 2):
        raise InputError(f"context_tokens must count the prompt of {prompt_tokens} tokens; got {context_tokens}")
    target, shape = target_of(model, kv_dtype), PromptShape(prompt_tokens, batch, layers_total, context_tokens)
    device_of(target.device).make_current()
    surroundings = environment(target.device, command)
    with torch.inference_mode():
        progress("this machine", 0.0)
        base = _base(target, name, surroundings, reference, shape, part_of(progress, 0.0, _ROOFS_DONE))
        found, deadline = [], deadline or Deadline(LIMIT_S)
        for index, phase in enumerate(phases):
            progress(phase, _ROOFS_DONE + (1 - _ROOFS_DONE) * index / len(phases))
            plan = Plan(budget_s / len(phases) / (2 * ALTERNATIONS), 3, 40)
            own = deadline.part(1 / (len(phases) - index))
            found.append(_profile(_work(target, phase, shape), base, plan, own, trace))
    progress("done", 1.0)
    beyond = beyond_positions(target.arch, longest(shape, phases))
    environment_after = dataclasses.replace(surroundings, after=read_telemetry(target.device))
    return Profile(
        kind=target.kind,
        model=name,
        arch=base.arch,
        dtype=target.dtype,
        kv_dtype=target.kv_dtype,
        attention=target.attention,
        algorithm=target.algorithm,
        environment=environment_after,
        roofs=base.roofs,
        weight_dtype=base.weight_dtype,
        product=product_of(model) if target.kind == "llamalab" else None,
        phases=found,
        notes=[*filter(None, [beyond]), *(f"{one.phase}: {one.missing}" for one in found if one.missing)],
    )


def _profile(work: PhaseRun, base: Record, plan: Plan, deadline: Deadline, trace: TraceWriter | None) -> PhaseProfile:
    """Every pass of one phase, joined to one profile."""
    device, before = work.target.device, read_telemetry(work.target.device)
    wall_s, clocked = _clean_and_clocked(work, plan, deadline)
    observed = observe(work, trace)
    after, wall = read_telemetry(device), median(wall_s)
    clocked_s = median(sum(one.values()) for one in clocked)
    return phase_profile(
        work,
        base,
        observed,
        wall_s,
        clocked,
        instruments=[Instrument(name=OP_CLOCK, ratio=clocked_s / wall, about="a timestamp at every point")],
        before=before,
        after=after,
        energy=_energy(work, wall),
    )


def _clean_and_clocked(work: PhaseRun, plan: Plan, deadline: Deadline) -> tuple[list[float], list[dict[str, float]]]:
    """Wall times without a tap, and the seconds of every operation with a timestamp at each point.

    They alternate until the deadline, at least once.
    """
    job, device = work.job, work.target.device
    clock = clock_for(device)
    ops = OpClock(clock_for(device, marks=MARKS_READY), numbered(work.target.label))
    wall_s: list[float] = []
    passes: list[dict[str, float]] = []

    def clocked() -> None:
        ops.start()
        job.run()

    def between() -> None:
        job.before()
        ops.settle()

    for turns in range(ALTERNATIONS, 0, -1):
        if wall_s and not deadline.left_s:
            break
        wall_s += time_one(job.run, clock, plan.within(deadline.part(1 / (2 * turns))), before=job.before)
        with tapped(work.target.model, ops):
            own = plan.within(deadline.part(1 / (2 * turns - 1)))
            rounds = len(time_one(clocked, clock, own, before=between))
        passes += ops.read()[-rounds:]  # the warm-up's passes came first
    return wall_s, passes


def _energy(work: PhaseRun, wall_s: float) -> Energy:
    """Of the phase's tokens, over as many passes as fill the window."""

    def run() -> None:
        work.job.before()
        work.job.run()

    return energy_per_token(run, work.batch * work.new_tokens, work.target.device, pass_s=wall_s)


def _work(target: Target, phase: str, shape: PromptShape) -> PhaseRun:
    new = 1 if phase == "decode" else shape.prompt_tokens
    past = (shape.context_tokens or shape.prompt_tokens + (phase == "decode")) - new
    total = shape.layers_total or target.arch.n_layers
    return PhaseRun(
        target=target,
        job=target.job(shape.batch, new, past),
        phase=phase,
        batch=shape.batch,
        new_tokens=new,
        past_tokens=past,
        layers_total=total,
    )


def reference_of(profile: Profile) -> Record:
    """A record that holds the roofs of a profile, for use by another one on the same machine."""
    return unmeasured(
        profile.model, LlamaArch.from_dict(profile.arch), profile.dtype, profile.environment, profile.roofs
    )


def _base(
    target: Target,
    name: str,
    surroundings: Environment,
    reference: Record | None,
    shape: PromptShape,
    progress: ProgressCallback,
) -> Record:
    """A record with the shape of the whole model and the machine's roofs, as the comparison needs them."""
    kept = kept_of(target.model)
    if reference is None:
        storage, rows = (kept.storage, kept.kernel_rows) if kept else (None, None)
        machine = Machine(target.device, clock_for(target.device), target.dtype, weight_dtype=storage, kernel_rows=rows)
        roofs = quick_roofs(machine, target.arch, progress=progress)
    else:
        roofs = reference.roofs
    arch = target.arch.replace(n_layers=shape.layers_total or target.arch.n_layers)
    constants = reference.constants if reference else None
    base = unmeasured(name, arch, target.dtype, surroundings, roofs, constants)
    if kept is None:
        return base
    return dataclasses.replace(base, weight_dtype=kept.storage, kernel_rows=kept.kernel_rows)
