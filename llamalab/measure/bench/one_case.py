"""One case of a bench: warm-up, the kernel that runs, repetitions until they agree, and what disturbed them."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter

import torch
from torch import Tensor, nn

from llamalab.measure.bench.passes import case_tokens, filled_cache, time_passes
from llamalab.measure.bench.repeats import repeat_steadily
from llamalab.measure.bench.rewound_cache import RewoundCache, as_called
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.bench.settings import BenchSettings, Timed
from llamalab.measure.device.environment import read_telemetry
from llamalab.measure.device.machine import (
    clock_for,
    device_of,
)
from llamalab.measure.device.watch import Watch, watching
from llamalab.measure.profile.attention_kernel import fused_kernel
from llamalab.measure.profile.rows import throttle_reasons
from llamalab.measure.timing.deadline import Deadline
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.packed import product_of
from llamalab.records.phase_profile import Telemetry


def measure_case(bench: BenchSettings, model: nn.Module, case: BenchCase, step: Callable[[str, float], None]) -> Timed:
    """Warm up, repeat until repetitions agree, and read the kernel, the memory and the state of the device."""
    call: Callable[..., object]
    cache: StaticKVCache | RewoundCache
    if isinstance(model, Transformer):
        call, cache = model, filled_cache(model.rank_arch, case, bench.kv_dtype or bench.dtype, bench.place)
    else:
        call, cache = as_called(model), RewoundCache(model, case, bench.arch)
    prompt_BT, steps = case_tokens(bench.arch, case, bench.place)
    clock = clock_for(bench.place, marks=case.generate + 2)
    device = device_of(bench.place)
    device.start_held()

    def repeat(steps: Sequence[Tensor]) -> list[float]:
        cache.rewind(case.depth, lossy=True)
        return time_passes(call, cache, prompt_BT, steps, clock)

    step("warm-up", 0.0)
    began = perf_counter()
    # Compilers and kernels that are planned by length plan anew for an unknown length: all lengths run once first.
    repeat(steps)
    warmup_s = perf_counter() - began
    kernel = fused_kernel(lambda: repeat(steps[:1]), bench.place)
    before = read_telemetry(bench.place)

    def repetition(number: int) -> list[float]:
        wanted = bench.repetitions
        words = f"of {wanted}" if number < wanted else f"as the first {wanted} disagree"
        step(f"repetition {number + 1} {words}", min(number + 1, wanted) / (wanted + 1))
        return repeat(steps)

    with _watched(bench.place) as watch:
        steady = repeat_steadily(repetition, bench.repetitions, Deadline(bench.repeat_s))
    states = [before, *([watch.state] if watch else []), read_telemetry(bench.place)]
    throttled = throttle_reasons(*states)
    disturbances = [*steady.reasons, *_busy(bench, before), *(f"throttled: {reason}" for reason in throttled or ())]
    return Timed(
        warmup_s=warmup_s,
        passes_s=steady.passes_s,
        kernel=kernel,
        memory_bytes=device.held_bytes(),
        throttle_reasons=throttled,
        load_average=before.load_average,
        disturbances=disturbances,
        product=product_of(model),
    )


def _watched(place: torch.device) -> AbstractContextManager[Watch | None]:
    """Telemetry of an accelerator during the work; none of a host, whose processor the sampling thread would use."""
    return watching(place) if device_of(place).role == "accelerator" else nullcontext()


def _busy(bench: BenchSettings, before: Telemetry) -> list[str]:
    """Whether other processes used the host's processors before the test; a load figure after it includes the test."""
    load, cores = before.load_average, os.cpu_count() or 1
    if device_of(bench.place).role != "host" or load is None or load <= cores:
        return []
    return [f"load average {load:.1f} on {cores} processors"]
