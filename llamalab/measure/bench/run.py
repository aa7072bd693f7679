"""The speed of the built-in model, test by test: prompt processing and generation over depth and batch.

The manner is llama-bench's: a warm-up, then repetitions of each test on a cache that holds `depth`
tokens and is rewound to them. A test whose repetitions disagree is repeated within a budget, and says so.
Every forward pass is timed by itself; on CUDA by events, and the device is waited for once per repetition.
The kernel is read from the profiler in a pass of its own, after the warm-up and outside all times.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.analytic.params import parameter_count, weight_bytes
from llamalab.arch import LlamaArch
from llamalab.attention import Backend, fastest_backend, get_backend
from llamalab.choices import SCOPES
from llamalab.errors import InputError, LlamaLabError, UnknownNameError
from llamalab.measure.bench.passes import case_tokens, filled_cache, time_passes
from llamalab.measure.bench.reference import Progress, Reference, measure_reference
from llamalab.measure.bench.repeats import repeat_steadily
from llamalab.measure.bench.rows import MEASURED, MEASURED_TIED, BenchRow, Case
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.energy import usage
from llamalab.measure.device.environment import environment, telemetry
from llamalab.measure.device.machine import available_bytes, device_name, release_memory, resolve_device
from llamalab.measure.profile.attention_kernel import fused_kernel
from llamalab.measure.profile.rows import throttle_reasons
from llamalab.measure.roofs.probes import Machine
from llamalab.measure.target.blocks import SPARE, Depth, choose_tied
from llamalab.measure.timing.clock import clock_for
from llamalab.measure.timing.deadline import Deadline
from llamalab.measure.timing.timer import collector_off
from llamalab.model import Transformer, build
from llamalab.model.compiled import compile
from llamalab.model.dtypes import activation_dtype
from llamalab.model.packed import product_of
from llamalab.records.record import Record, Telemetry, unmeasured
from llamalab.units import format_bytes

AUTO = "auto"
REPEAT_S = 10.0  # of repetitions more for a disturbed test
_WARM_STEPS = 3  # of generation: the first is unlike the others
_REFERENCE_DONE = 0.1  # share of the whole time, roughly


class Bench(NamedTuple):
    """What all tests of a bench share."""

    name: str
    arch: LlamaArch
    place: torch.device
    dtype: str
    backend: Backend
    compiled: str
    threads: int
    repetitions: int
    depth: Depth
    free_bytes: int
    repeat_s: float = 0.0

    def need_bytes(self, case: Case) -> int:
        """Weights, cache and activations of a test."""
        return _need_bytes(self.depth, case, self.dtype, self.backend.algorithm)


class Timed(NamedTuple):
    """What one test gave: seconds of the passes by repetition."""

    warmup_s: float
    passes_s: list[list[float]]
    kernel: str | None
    memory_bytes: int | None
    throttle_reasons: list[str] | None
    load_average: float | None
    disturbances: list[str]
    product: str


def measure_bench(
    name: str,
    arch: LlamaArch,
    cases: Sequence[Case],
    *,
    device: str = AUTO,
    dtype: str = "bf16",
    attention: str | None = None,
    compiled: str = "none",
    tie_blocks: int | str | None = AUTO,
    threads: int | None = None,
    repetitions: int = 5,
    repeat_s: float = REPEAT_S,
    reference: Record | None = None,
    progress: Progress = lambda label, done: None,
) -> Iterator[BenchRow]:
    """A row per case, each as it is done.

    `attention` is a backend's name (default: the fastest of the device), `compiled` a scope of llamalab.compile.
    `tie_blocks` runs the full depth over so many distinct blocks, None over all, "auto" over all where they
    fit, else over as few as caches allow. `threads` are the CPU's (default: torch's). A disturbed test is repeated
    for up to `repeat_s` seconds. `reference` is a record of this machine, whose roofs and constants predictions rest
    on (default: a short measurement; where that fails, rows have no prediction but the reason). What does not fit
    into memory or cannot be run is a row with the reason. Raises InputError, UnknownNameError or MissingError for
    what cannot be asked, before any work.
    """
    activation_dtype(dtype)
    place = resolve_device(device)
    backend = get_backend(attention) if attention else fastest_backend(place)
    if compiled not in SCOPES:
        raise UnknownNameError("compiled", compiled, SCOPES)
    if not repeat_s >= 0:
        raise InputError(f"repeat_s must be 0 or more seconds; got {repeat_s}")
    if repetitions < 1 or (threads is not None and threads < 1):
        raise InputError(f"repetitions and threads must be at least 1; got {repetitions} and {threads}")
    if not cases:
        raise InputError("a bench must have at least one test; got none")
    for case in cases:
        case.check()
    free_bytes = available_bytes(place)
    least = min(cases, key=lambda case: (case.batch * case.context, case.batch * case.prompt))
    depth = _depth(arch, tie_blocks, least, dtype, place, backend.algorithm, int(SPARE * free_bytes))
    bench = Bench(
        name, arch, place, dtype, backend, compiled, threads or torch.get_num_threads(), repetitions, depth, free_bytes,
        repeat_s,
    )  # fmt: skip
    known = None if reference is None else Reference(reference, arch, dtype, backend.algorithm)
    return _rows(bench, cases, known, progress)


def _depth(
    arch: LlamaArch, tie_blocks: int | str | None, least: Case, dtype: str, place: torch.device, algorithm: str,
    room_bytes: int,
) -> Depth:  # fmt: skip
    """The blocks to run; all of them where the smallest test then fits."""
    whole = Depth(arch, arch.n_layers)
    if tie_blocks is None:
        return whole
    if tie_blocks == AUTO:
        beside = _need_bytes(whole, least, dtype, algorithm) - whole.held_weight_bytes(dtype)
        return choose_tied(arch, dtype, room_bytes=room_bytes - beside, cache_bytes=effective_cache_bytes(place))
    if type(tie_blocks) is not int or not 1 <= tie_blocks <= arch.n_layers:
        raise InputError(f"tie_blocks must be auto or 1 to the model's {arch.n_layers} blocks; got {tie_blocks!r}")
    return Depth(arch, tie_blocks)


def _need_bytes(depth: Depth, case: Case, dtype: str, algorithm: str) -> int:
    new_tokens = max(1, case.prompt)
    return depth.need_bytes(
        batch=case.batch, new_tokens=new_tokens, max_tokens=case.context, dtype=dtype, attention=algorithm
    )


def _rows(bench: Bench, cases: Sequence[Case], reference: Reference | None, progress: Progress) -> Iterator[BenchRow]:
    # No context is left open over a yield: it would hold for whoever takes the rows.
    reference = reference or _measured_reference(bench, progress)
    model: Transformer | None = None
    for index, case in enumerate(cases):
        row = _blank(bench, case, reference)

        def tell(label: str, share: float, index: int = index, case: Case = case) -> None:
            done = _REFERENCE_DONE + (1 - _REFERENCE_DONE) * (index + share) / len(cases)
            progress(f"{case.test}, batch {case.batch}: {label}", done)

        if reason := _too_large(bench, case):
            yield replace(row, reason=reason)
            continue
        try:
            with _threads(bench.threads), torch.inference_mode(), collector_off():
                if model is None:
                    tell(f"building {bench.depth.label}", 0.0)
                    model = _built(bench)
                    reference = reference.for_algorithm(model.backend.algorithm)  # compiling may change it
                timed = _measure(bench, model, case, tell)
                row = replace(_blank(bench, case, reference), attention=model.backend.name)
        except (LlamaLabError, torch.OutOfMemoryError) as error:
            yield replace(row, reason=" ".join(str(error).split()))
        else:
            yield _filled(row, bench, reference, case, timed)
        release_memory(bench.place)
    progress("done", 1.0)


def _measured_reference(bench: Bench, progress: Progress) -> Reference:
    """Roofs and constants of this machine; where they cannot be had, the reason in the place of every prediction."""
    machine = Machine(bench.place, clock_for(bench.place), bench.dtype)
    try:
        with _threads(bench.threads):
            record = measure_reference(
                bench.name, bench.arch, machine, weight_bytes=bench.depth.held_weight_bytes(bench.dtype),
                progress=lambda label, done: progress(label, _REFERENCE_DONE * done),
            )  # fmt: skip
        return Reference(record, bench.arch, bench.dtype, bench.backend.algorithm)
    except (LlamaLabError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:  # it costs a prediction
        release_memory(bench.place)
        record = unmeasured(bench.name, bench.arch, bench.dtype, environment(bench.place, ""), [])
        reason = " ".join(str(error).split()) or type(error).__name__
        return Reference(record, bench.arch, bench.dtype, bench.backend.algorithm, fault=f"not predicted: {reason}")


def _blank(bench: Bench, case: Case, reference: Reference) -> BenchRow:
    """The row of a test that was not run: all that is known without."""
    predicted = reference.predicted_s(case)
    known = not isinstance(predicted, str)
    return BenchRow(
        model=bench.name,
        size_bytes=weight_bytes(bench.arch, bench.dtype),
        parameters=parameter_count(bench.arch),
        backend=bench.place.type,
        device=device_name(bench.place),
        threads=bench.threads,
        dtype=bench.dtype,
        attention=bench.backend.name,
        kernel=None,
        compiled=bench.compiled,
        blocks_distinct=bench.depth.distinct,
        blocks_total=bench.arch.n_layers,
        blocks=bench.depth.label,
        test=case.test,
        prompt_tokens=case.prompt,
        generated_tokens=case.generate,
        depth_tokens=case.depth,
        batch=case.batch,
        basis=None,
        predicted_tokens_per_s=case.tokens / predicted if not isinstance(predicted, str) else None,
        prediction_basis=reference.words if known else None,
        prediction_reason=predicted if isinstance(predicted, str) else None,
    )


def _too_large(bench: Bench, case: Case) -> str | None:
    """Why a test cannot be run in this memory; None where it can."""
    need = bench.need_bytes(case)
    if need <= SPARE * bench.free_bytes:
        return None
    remedy = "take a smaller batch or depth" if bench.depth.tied else "tie blocks, or take a smaller batch or depth"
    return (
        f"{bench.depth.label} with cache and activations must fit into {SPARE:.0%} of the free memory, "
        f"{format_bytes(bench.free_bytes)}; they need {format_bytes(need)}; {remedy}"
    )


def _built(bench: Bench) -> Transformer:
    tied = bench.depth.distinct if bench.depth.tied else None
    model = build(bench.arch, dtype=bench.dtype, device=bench.place, tie_blocks=tied).eval()
    return compile(model, scope=bench.compiled, attention=bench.backend.name)


def _measure(bench: Bench, model: Transformer, case: Case, tell: Callable[[str, float], None]) -> Timed:
    cache = filled_cache(bench.arch, case, bench.dtype, bench.place)
    prompt_BT, steps = case_tokens(bench.arch, case, bench.place)
    clock = clock_for(bench.place, marks=case.generate + 2)
    if bench.place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.place)

    def repeat(steps: Sequence[Tensor]) -> list[float]:
        cache.rewind(case.depth)
        return time_passes(model, cache, prompt_BT, steps, clock)

    tell("warm-up", 0.1)
    began = perf_counter()
    # A compiler looks anew at lengths it has not met: it must meet them all before they are timed.
    repeat(steps[:_WARM_STEPS] if bench.compiled == "none" else steps)
    warmup_s = perf_counter() - began
    kernel = fused_kernel(lambda: repeat(steps[:1]))
    before = telemetry(bench.place)

    def repetition(number: int) -> list[float]:
        tell(f"repetition {number + 1} of {bench.repetitions}", 0.2 + 0.8 * min(1.0, number / bench.repetitions))
        return repeat(steps)

    steady = repeat_steadily(repetition, bench.repetitions, Deadline(bench.repeat_s))
    after = telemetry(bench.place)
    throttled = throttle_reasons(before, after)
    disturbances = [*steady.reasons, *_busy(bench, before), *(f"throttled: {reason}" for reason in throttled or ())]
    return Timed(
        warmup_s, steady.passes_s, kernel, _memory_bytes(bench.place), throttled, before.load_average, disturbances,
        product_of(model),
    )  # fmt: skip


def _busy(bench: Bench, before: Telemetry) -> list[str]:
    """Whether others used the host's processors before the test; its own repetitions are in the figure after."""
    load, cores = before.load_average, os.cpu_count() or 1
    if bench.place.type != "cpu" or load is None or load <= cores:
        return []
    return [f"load average {load:.1f} on {cores} processors"]


def _filled(row: BenchRow, bench: Bench, reference: Reference, case: Case, timed: Timed) -> BenchRow:
    row = replace(
        row,
        basis=MEASURED_TIED if bench.depth.tied else MEASURED,
        kernel=timed.kernel,
        product=timed.product,
        warmup_s=timed.warmup_s,
        passes_s=timed.passes_s,
        memory_bytes=timed.memory_bytes,
        memory_method="cuda: max_memory_allocated" if bench.place.type == "cuda" else "VmRSS of the process",
        throttle_reasons=timed.throttle_reasons,
        load_average=timed.load_average,
        disturbances=timed.disturbances,
    )
    work, rate = reference.work(case), row.tokens_per_s
    assert rate is not None
    per_s = rate / case.tokens  # repetitions
    if not case.generate:
        flops_per_s, roof = work.flops * per_s, reference.roof("gemm")
        return replace(row, flops_per_s=flops_per_s, gemm_fraction=_share(flops_per_s, roof))
    if not case.prompt:
        bytes_per_s, roof = work.bytes * per_s, reference.roof("stream")
        return replace(row, bytes_per_s=bytes_per_s, stream_fraction=_share(bytes_per_s, roof))
    return row


def _share(rate: float, roof: float | None) -> float | None:
    """The share of a roof; a rate above it is the best that was seen, and so all of the roof."""
    return min(1.0, rate / roof) if roof else None


def _memory_bytes(place: torch.device) -> int | None:
    return int(torch.cuda.max_memory_allocated(place)) if place.type == "cuda" else usage(place).resident_bytes


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many threads of the CPU while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
