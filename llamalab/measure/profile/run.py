"""Where the time and the memory of a model go, operation by operation: clean passes, one instrument each.

    clean       wall time of the pass, no tap
    op clock    a timestamp at every point: time of every operation in place
    ranges      the profiler with a range per operation: kernels, device time, gaps
    memory      the allocator's events, laid over the same ranges

Clean passes and the op clock alternate in blocks, so that their ratio is fair; the profiler and memory
passes are timed only to say what they cost. A Hugging Face model is measured in the same way; what it
does between its projections and the output of attention is one row, as it shows nothing in between.
"""

import dataclasses
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from llamalab.arch import LlamaArch
from llamalab.choices import PHASES
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.bind import tapped
from llamalab.measure.device.energy import energy_per_token
from llamalab.measure.device.environment import environment, telemetry
from llamalab.measure.profile.observations import Trace, Work, look
from llamalab.measure.profile.rows import OP_CLOCK, numbered, phase_profile
from llamalab.measure.roofs.probes import Machine
from llamalab.measure.roofs.quick import quick_roofs
from llamalab.measure.target.target import Subject, subject_of
from llamalab.measure.timing.clock import clock_for
from llamalab.measure.timing.op_clock import OpClock
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.records.phase_profile import Energy, Instrument, PhaseProfile
from llamalab.records.profile import Profile
from llamalab.records.record import Environment, Record, unmeasured

BLOCKS = 3  # clean passes and op-clock passes take turns so many times
_MARKS = 1 << 14


class Shape(NamedTuple):
    """What is run: a prompt, and the token after it; of `layers_total` blocks those of the model."""

    prompt_tokens: int
    batch: int = 1
    layers_total: int | None = None


def profile(
    model: nn.Module,
    *,
    name: str = "model",
    phases: Sequence[str] = PHASES,
    prompt_tokens: int = 128,
    batch: int = 1,
    layers_total: int | None = None,
    reference: Record | None = None,
    budget_s: float = 4.0,
    command: str = "",
    trace: Trace | None = None,
    progress: Callable[[str, float], None] = lambda label, done: None,
) -> Profile:
    """Profile a Transformer or a LlamaForCausalLM where it is.

    `prefill` runs the prompt, `decode` the token after it. `reference` is a record of this machine, whose
    roofs and constants predictions rest on (default: a short measurement of the roofs).
    `trace(phase, profiler)` is given the profiled pass of each phase. Raises UnknownNameError for another
    phase, InputError for another kind of model.
    """
    for phase in phases:
        if phase not in PHASES:
            raise UnknownNameError("phase", phase, PHASES)
    if prompt_tokens < 1 or batch < 1:
        raise InputError(f"prompt_tokens and batch must be at least 1; got {prompt_tokens} and {batch}")
    subject, shape = subject_of(model), Shape(prompt_tokens, batch, layers_total)
    surroundings = environment(subject.device, command)
    with torch.inference_mode():
        progress("roofs of this machine", 0.0)
        base = _base(subject, name, surroundings, reference, shape)
        found = []
        for index, phase in enumerate(phases):
            progress(phase, 0.3 + 0.7 * index / len(phases))
            found.append(_profile(_work(subject, phase, shape), base, budget_s / len(phases), trace))
    progress("done", 1.0)
    environment_after = dataclasses.replace(surroundings, after=telemetry(subject.device))
    return Profile(
        kind=subject.kind,
        model=name,
        arch=base.arch,
        dtype=subject.dtype,
        attention=subject.attention,
        algorithm=subject.algorithm,
        environment=environment_after,
        roofs=base.roofs,
        phases=found,
        notes=[f"{one.phase}: {one.missing}" for one in found if one.missing],
    )


def _profile(work: Work, base: Record, budget_s: float, trace: Trace | None) -> PhaseProfile:
    """Every pass of one phase, and what they say together."""
    device, before = work.subject.device, telemetry(work.subject.device)
    wall_s, clocked = _clean_and_clocked(work, Plan(budget_s / (2 * BLOCKS), 3, 40))
    looks = look(work, trace)
    after, wall = telemetry(device), median(wall_s)
    clocked_s = median(sum(one.values()) for one in clocked)
    return phase_profile(
        work, base, looks, wall_s, clocked,
        instruments=[Instrument(name=OP_CLOCK, ratio=clocked_s / wall, about="a timestamp at every point")],
        before=before, after=after, energy=_energy(work, wall),
    )  # fmt: skip


def _clean_and_clocked(work: Work, plan: Plan) -> tuple[list[float], list[dict[str, float]]]:
    """Wall times without a tap, and the seconds of every operation with a timestamp at each point."""
    job, device = work.job, work.subject.device
    clock = clock_for(device)
    ops = OpClock(clock_for(device, marks=_MARKS), numbered(work.subject.label))
    wall_s: list[float] = []
    passes: list[dict[str, float]] = []

    def clocked() -> None:
        ops.start()
        job.run()

    for _ in range(BLOCKS):
        wall_s += time_one(job.run, clock, plan, before=job.before)
        with tapped(work.subject.model, ops):
            rounds = len(time_one(clocked, clock, plan, before=job.before))
        passes += ops.read()[-rounds:]  # the warm-up's passes came first
    return wall_s, passes


def _energy(work: Work, wall_s: float) -> Energy:
    """Of the phase's tokens, over as many passes as fill the window."""

    def run() -> None:
        work.job.before()
        work.job.run()

    return energy_per_token(run, work.batch * work.new_tokens, work.subject.device, pass_s=wall_s)


def _work(subject: Subject, phase: str, shape: Shape) -> Work:
    past = shape.prompt_tokens if phase == "decode" else 0
    new = 1 if past else shape.prompt_tokens
    total = shape.layers_total or subject.arch.n_layers
    return Work(subject, subject.job(shape.batch, new, past), phase, shape.batch, new, past, total)


def reference_of(profile: Profile) -> Record:
    """A record that holds the roofs of a profile, for another one on the same machine."""
    return unmeasured(
        profile.model, LlamaArch(**profile.arch), profile.dtype, profile.environment, profile.roofs
    )  # fmt: skip


def _base(subject: Subject, name: str, surroundings: Environment, reference: Record | None, shape: Shape) -> Record:
    """What the comparison needs of a record: the shape of the whole model and the machine's roofs."""
    if reference is None:
        roofs = quick_roofs(Machine(subject.device, clock_for(subject.device), subject.dtype), subject.arch)
    else:
        roofs = reference.roofs
    arch = subject.arch.replace(n_layers=shape.layers_total or subject.arch.n_layers)
    constants = reference.constants if reference else None
    return unmeasured(name, arch, subject.dtype, surroundings, roofs, constants)
