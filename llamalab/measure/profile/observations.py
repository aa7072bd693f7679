"""Passes under instruments: kernels by operation, memory over time, the device's state.

Each instrument runs in a pass of its own, which is timed only to report the cost of the instrument.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from llamalab.analytic.activations import memory_of
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.instrument.bind import tapped
from llamalab.instrument.points import points_of
from llamalab.measure.device.machine import device_of
from llamalab.measure.device.profiler import profiling
from llamalab.measure.device.watch import state_at_work
from llamalab.measure.profile.allocations import memory_profile, predicted_steps
from llamalab.measure.profile.attention_kernel import kernel_of_pass
from llamalab.measure.profile.kernel_times import Busy, busy_times, ranges_in
from llamalab.measure.target.target import Job, Target
from llamalab.measure.timing.profiler_ranges import Ranges
from llamalab.records.phase_profile import MemoryProfile, Telemetry


class PhaseRun(NamedTuple):
    """A phase of a model, ready to be run: `new_tokens` of `batch` sequences onto `past_tokens`."""

    target: Target
    job: Job
    phase: str
    batch: int
    new_tokens: int
    past_tokens: int
    layers_total: int

    @property
    def context_tokens(self) -> int:
        """Tokens that the last new one attends to, itself included."""
        return self.past_tokens + self.new_tokens

    @property
    def layers(self) -> int:
        """Blocks that are run."""
        return self.target.arch.n_layers


TraceWriter = Callable[[PhaseRun, Any], None]


class Observations(NamedTuple):
    """Results of the observed passes, and the seconds of the two that are timed."""

    busy: dict[str, Busy]
    kernel: str | None
    ranged_s: float
    memory: MemoryProfile
    memory_s: float
    during: Telemetry


def observe(work: PhaseRun, trace: TraceWriter | None = None) -> Observations:
    """Run the three passes; `trace(work, profiler)` receives the profiled one."""
    busy, kernel, ranged_s = _ranged(work, trace)
    memory, memory_s = _memory(work)
    return Observations(
        busy=busy, kernel=kernel, ranged_s=ranged_s, memory=memory, memory_s=memory_s, during=_during(work)
    )


def _ranged(work: PhaseRun, trace: TraceWriter | None) -> tuple[dict[str, Busy], str | None, float]:
    """One pass under the profiler with ranges: kernels of each range, the attention kernel, and the wall time."""
    target = work.target
    ranges, device = Ranges(work.layers, target.label, points_of(target.arch)), device_of(target.device)
    work.job.before()
    with profiling(device=device) as profiler:
        seconds, _ = _timed(work, ranges)
    if trace is not None:
        trace(work, profiler)
    events = list(profiler.kineto_results.events())
    spans = ranges_in(events, (span.name for span in ranges.spans))
    busy = busy_times(events, spans, launch_calls=device.launch_calls)
    return busy, kernel_of_pass(event.name() for event in events), seconds


def _memory(work: PhaseRun) -> tuple[MemoryProfile, float]:
    """One pass with the allocator's events."""
    target = work.target
    ranges = Ranges(work.layers, target.label, points_of(target.arch))
    work.job.before()
    # Outputs of the pass stay referenced until its events are read: a cache of its own must not count as released.
    with device_of(target.device).trace_allocations() as trace:
        seconds, made = _timed(work, ranges)
    profiled, spans = trace.profiler_events, ranges.spans
    if profiled is not None:  # the ranges in the clock of the allocator's events
        spans = ranges_in(profiled, (span.name for span in spans))
    shape = PassShape(
        new_tokens=work.new_tokens,
        context_tokens=work.context_tokens,
        batch=work.batch,
        dtype=target.dtype,
        kv_dtype=target.kv_dtype,
        attention=target.algorithm,
        tensor_parallel=target.ranks,
    )
    way = memory_of(target.attention, target.algorithm)
    del made
    spans = sorted(spans, key=lambda span: span.start_ns)
    inside = [event for event in trace.events if spans and event.at_ns >= spans[0].start_ns]
    found = memory_profile(
        inside,
        spans,
        method=trace.method,
        weight_bytes=target.weight_bytes,
        kv_bytes=work.job.kv_bytes,
        predicted=predicted_steps(target.arch, shape._replace(attention=way, tensor_parallel=1)),
        ops=forward_ops(target.arch, shape),
    )
    return found, seconds


def _during(work: PhaseRun) -> Telemetry:
    """The device's state while passes run."""

    def run() -> None:
        work.job.before()
        work.job.run()

    return state_at_work(run, work.target.device)


def _timed(work: PhaseRun, ranges: Ranges) -> tuple[float, object]:
    with tapped(work.target.model, ranges):
        began = time.perf_counter()
        ranges.start()
        try:
            made = work.job.run()
        finally:
            ranges.stop()
        device_of(work.target.device).synchronise()
        return time.perf_counter() - began, made
