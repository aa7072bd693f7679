"""Where do the time and the memory of a model go, operation by operation? Clean passes, one instrument each.

    clean       wall time of the pass, no tap
    op clock    a timestamp at every point: time of every operation in place
    ranges      the profiler with a range per operation: kernels, device time, gaps
    memory      the allocator's events, laid over the same ranges

Clean passes and the op clock alternate in blocks, so that their ratio is fair; the profiler and memory
passes are timed only to say what they cost. A Hugging Face model is measured in the same way; what it
does between its projections and the output of attention is one row, as it shows nothing in between.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import nn

from llamalab.arch import LlamaArch
from llamalab.compare import Phase
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.bind import tapped
from llamalab.measure.clock import clock_for
from llamalab.measure.energy import energy_per_token, usage
from llamalab.measure.environment import environment, telemetry
from llamalab.measure.kernel_times import Busy, busy_times, ranges_in
from llamalab.measure.kernels import name_kernel
from llamalab.measure.op_clock import OpClock
from llamalab.measure.profile_data import Energy, Instrument, MemoryProfile, OpProfile, PhaseProfile, Profile
from llamalab.measure.profile_rows import missing_time, op_profile, ops_and_outside, parts_of, throttle_reasons
from llamalab.measure.profiler import profiling
from llamalab.measure.ranges import Ranges
from llamalab.measure.roofs import Machine
from llamalab.measure.roofs_quick import quick_roofs
from llamalab.measure.subject import Job, Subject, subject_of
from llamalab.measure.timeline import history_events, memory_profile, predicted_steps, profiler_events
from llamalab.measure.timer import Plan, time_one
from llamalab.rates import basis_of
from llamalab.records import Environment, Measurement, Memory, Pass, Record

PHASES = ("prefill", "decode")
BLOCKS = 3  # clean passes and op-clock passes take turns so many times
_MARKS = 1 << 14
Trace = Callable[[str, Any], None]


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
            found.append(_Runner(subject, base, phase, shape, budget_s / len(phases), trace).profile())
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


class _Runner:
    """The passes of one phase."""

    def __init__(
        self, subject: Subject, base: Record, phase: str, shape: Shape, budget_s: float, trace: Trace | None
    ) -> None:
        self.subject, self.base, self.phase, self.trace = subject, base, phase, trace
        past = shape.prompt_tokens if phase == "decode" else 0
        self.new_tokens, self.past_tokens, self.batch = 1 if past else shape.prompt_tokens, past, shape.batch
        self.layers = subject.arch.n_layers
        self.layers_total = shape.layers_total or self.layers
        self.job: Job = subject.job(self.batch, self.new_tokens, past)
        self.result: object = None
        self.plan = Plan(budget_s / (2 * BLOCKS), 3, 40)

    def profile(self) -> PhaseProfile:
        """Run every pass and join what they saw."""
        before = telemetry(self.subject.device)
        wall_s, clocked = self._clean_and_clocked()
        busy, kernel, profiled_s = self._ranged()
        memory, memory_s = self._memory()
        after = telemetry(self.subject.device)
        wall = median(wall_s)
        ops, outside = ops_and_outside(clocked, self.layers)
        rows = self._rows(ops, memory, kernel, wall_s, busy)
        named, outside_s = sum(median(samples) * calls for samples, calls in ops.values()), median(outside)
        closure = (named + outside_s) / wall - 1
        clocked_s = [sum(one.values()) for one in clocked]
        return PhaseProfile(
            phase=self.phase,
            batch=self.batch,
            new_tokens=self.new_tokens,
            context_tokens=self.past_tokens + self.new_tokens,
            layers_measured=self.layers,
            layers_total=self.layers_total,
            kernel=kernel,
            wall_s=wall,
            wall_samples_s=wall_s,
            named_s=named,
            outside_s=outside_s,
            outside="the turns of RoPE, once per pass" + (", and masks" if self.subject.kind != "llamalab" else ""),
            closure=closure,
            missing=missing_time(closure, self.subject.kind),
            ops=rows,
            memory=memory,
            instruments=[
                Instrument(name="op clock", ratio=median(clocked_s) / wall, about="a timestamp at every point"),
                Instrument(name="profiler", ratio=profiled_s / wall, about="ranges, kernels; one pass"),
                Instrument(name="memory", ratio=memory_s / wall, about="allocator events; one pass"),
            ],
            before=before,
            after=after,
            throttled=throttle_reasons(before, after),
            energy=self._energy(wall),
            usage=usage(self.subject.device),
        )

    def _clean_and_clocked(self) -> tuple[list[float], list[dict[str, float]]]:
        """Wall times without a tap, and the seconds of every row with a timestamp at each point."""
        clock = clock_for(self.subject.device)
        ops = OpClock(clock_for(self.subject.device, marks=_MARKS), self.subject.label)
        wall_s: list[float] = []
        passes: list[dict[str, float]] = []

        def clocked() -> None:
            ops.start()
            self.job.run()

        for _ in range(BLOCKS):
            wall_s += time_one(self.job.run, clock, self.plan, before=self.job.before)
            with tapped(self.subject.model, ops):
                rounds = len(time_one(clocked, clock, self.plan, before=self.job.before))
            passes += ops.read()[-rounds:]  # the warm-up's passes came first
        return wall_s, passes

    def _ranged(self) -> tuple[dict[str, Busy], str | None, float]:
        """One pass under the profiler with ranges: what ran in each, the attention kernel, and the wall time."""
        ranges, cuda = Ranges(self.layers, self.subject.label), self.subject.device.type == "cuda"
        self.job.before()
        with profiling() as profiler:
            seconds = self._timed(ranges)
        if self.trace is not None:
            self.trace(self.phase, profiler)
        events = list(profiler.profiler.kineto_results.events())
        spans = ranges_in(events, (span.name for span in ranges.spans))
        kernel = name_kernel(event.name() for event in events)
        return busy_times(events, spans, cuda=cuda), kernel, seconds

    def _memory(self) -> tuple[MemoryProfile, float]:
        """One pass with the allocator's events."""
        ranges, device = Ranges(self.layers, self.subject.label), self.subject.device
        self.result = None
        self.job.before()
        if device.type == "cuda":
            with _cuda_history(device) as history:
                seconds = self._timed(ranges)
            events, method, spans = history_events(history), "cuda: allocator history", ranges.spans
        else:
            with profiling(memory=True) as profiler:
                seconds = self._timed(ranges)
            results = profiler.profiler.kineto_results
            events, method = profiler_events(results.experimental_event_tree()), "profiler: allocator events"
            spans = ranges_in(results.events(), (span.name for span in ranges.spans))
        predicted = predicted_steps(
            self.subject.arch, batch=self.batch, new_tokens=self.new_tokens,
            context_tokens=self.past_tokens + self.new_tokens, dtype=self.subject.dtype,
            algorithm=self.subject.algorithm,
        )  # fmt: skip
        spans = sorted(spans, key=lambda span: span.start_ns)
        inside = [event for event in events if spans and event.at_ns >= spans[0].start_ns]
        found = memory_profile(
            inside, spans, method=method, weight_bytes=self.subject.weight_bytes, kv_bytes=self.job.kv_bytes,
            predicted=predicted,
        )  # fmt: skip
        return found, seconds

    def _energy(self, wall_s: float) -> Energy:
        """Of the phase's tokens, over as many passes as fill the window."""

        def work() -> None:
            self.job.before()
            self.job.run()

        return energy_per_token(work, self.batch * self.new_tokens, self.subject.device, pass_s=wall_s)

    def _timed(self, ranges: Ranges) -> float:
        device = self.subject.device
        with tapped(self.subject.model, ranges):
            began = time.perf_counter()
            ranges.start()
            try:
                # Held until the next pass: a cache that the pass made is no waste to be released in it.
                self.result = self.job.run()
            finally:
                ranges.stop()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.perf_counter() - began

    def _rows(
        self, ops: dict[str, tuple[list[float], int]], memory: MemoryProfile, kernel: str | None,
        wall_s: list[float], busy: dict[str, Busy],
    ) -> list[OpProfile]:  # fmt: skip
        """The measured operations beside what the cost table and the roofs say of them."""
        measured = [
            Measurement(name=name, samples_s=samples, count=self.layers_total if calls > 1 or "*" in name else 1)
            for name, (samples, calls) in ops.items()
        ]
        run = Pass(
            phase=self.phase, batch=self.batch, new_tokens=self.new_tokens,
            context_tokens=self.past_tokens + self.new_tokens, dtype=self.subject.dtype,
            attention=self.subject.attention, algorithm=self.subject.algorithm, kernel=kernel,
            layers_measured=self.layers, layers_total=self.layers_total, parts=[], ops=measured,
            memory=Memory(peak_bytes=memory.peak_bytes, method=memory.method), whole_s=wall_s,
        )  # fmt: skip
        table = {row.op.name: row for row in Phase(self.base, run, basis_of(self.base)).rows}
        total = sum(one.median_s * one.count for one in measured)
        return [
            op_profile(one, parts_of(one.name, table), busy.get(one.name), ops[one.name][1], total) for one in measured
        ]


def reference_of(profile: Profile) -> Record:
    """A record that holds the roofs of a profile, for another one on the same machine."""
    return Record(
        model=profile.model, arch=profile.arch, dtype=profile.dtype, environment=profile.environment,
        roofs=profile.roofs, passes=[], attention=[], parameters_measured=0, kv_bytes_measured=0, elapsed_s=0.0,
    )  # fmt: skip


def _base(subject: Subject, name: str, surroundings: Environment, reference: Record | None, shape: Shape) -> Record:
    """What the comparison needs of a record: the shape of the whole model and the machine's roofs."""
    if reference is None:
        roofs = quick_roofs(Machine(subject.device, clock_for(subject.device), subject.dtype), subject.arch)
    else:
        roofs = reference.roofs
    arch: LlamaArch = subject.arch.replace(n_layers=shape.layers_total or subject.arch.n_layers)
    return Record(
        model=name, arch=arch._asdict(), dtype=subject.dtype, environment=surroundings, roofs=roofs, passes=[],
        attention=[], parameters_measured=0, kv_bytes_measured=0, elapsed_s=0.0,
        constants=reference.constants if reference else None,
    )  # fmt: skip


@contextmanager
def _cuda_history(device: torch.device) -> Iterator[list[dict[str, Any]]]:
    """The allocator's history of what happens inside; filled when it ends."""
    entries: list[dict[str, Any]] = []
    torch.cuda.synchronize(device)
    torch.cuda.memory._record_memory_history(context=None, max_entries=1 << 17)
    try:
        yield entries
        torch.cuda.synchronize(device)
        traces = torch.cuda.memory._snapshot(device)["device_traces"]
        entries += traces[device.index or 0]
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
