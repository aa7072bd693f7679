"""The speed of the built-in model, test by test: prompt processing and generation over depth and batch.

As in llama-bench: a warm-up, then repetitions of each test on a cache that holds `depth`
tokens and is rewound to them. A test whose repetitions disagree is repeated within a budget, and says so.
Every forward pass is timed by itself; on CUDA by events, and the device is waited for once per repetition.
The kernel is read from the profiler in a pass of its own, after the warm-up and outside all times.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor, nn

from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.checkpoints.checkpoint import Weights
from llamalab.choices import SCOPES
from llamalab.errors import InputError, LlamaLabError, UnknownNameError
from llamalab.measure.bench.passes import case_tokens, filled_cache, time_passes
from llamalab.measure.bench.reference import Reference, measure_reference
from llamalab.measure.bench.repeats import repeat_steadily
from llamalab.measure.bench.rewound_cache import RewoundCache, as_called
from llamalab.measure.bench.rows import BenchCase, BenchRow
from llamalab.measure.bench.settings import BenchSettings, Timed, blank_row, filled_row, need_bytes, reason_too_large
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.environment import environment, read_telemetry
from llamalab.measure.device.machine import (
    available_bytes,
    clock_for,
    device_of,
    release_memory,
    resolve_device,
)
from llamalab.measure.device.watch import Watch, watching
from llamalab.measure.profile.attention_kernel import fused_kernel
from llamalab.measure.profile.rows import throttle_reasons
from llamalab.measure.roofs.kernel_rows import kernel_rows_here, product_here
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.shape_products import products_here, products_like
from llamalab.measure.target.blocks import SPARE, Depth, choose_tied
from llamalab.measure.target.made import made_model
from llamalab.measure.timing.deadline import Deadline, ProgressCallback
from llamalab.measure.timing.timer import collector_off
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.compiled import compile
from llamalab.model.dtypes import activation_dtype, torch_dtype
from llamalab.model.fastest import fastest_backend
from llamalab.model.packed import product_of
from llamalab.model.quantised.weights import kept_of
from llamalab.parallel.models import ready_model
from llamalab.parallel.team import Team
from llamalab.records.phase_profile import Telemetry
from llamalab.records.record import Record, unmeasured
from llamalab.units import QUANTISED, check_unscaled

AUTO = "auto"
REPEAT_S = 10.0  # of repetitions more for a disturbed test
_REFERENCE_DONE = 0.1  # share of the whole time, roughly


def measure_bench(
    name: str,
    arch: LlamaArch,
    cases: Sequence[BenchCase],
    *,
    device: str = AUTO,
    dtype: str = "bf16",
    attention: str | None = None,
    compiled: str = "none",
    tie_blocks: int | str | None = AUTO,
    threads: int | None = None,
    repetitions: int = 5,
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    repeat_s: float = REPEAT_S,
    reference: Record | None = None,
    team: Team | None = None,
    weights: Weights | None = None,
    progress: ProgressCallback = lambda label, done: None,
) -> Iterator[BenchRow]:
    """A row per case, each as it is done.

    A test that does not fit into memory or cannot be run is a row with the reason.

    Args:
        name: the model's name in the rows.
        arch: its architecture.
        cases: the tests.
        device: auto, cpu, cuda or cuda:N.
        dtype: of weights, activations and cache.
        attention: a backend's name (default: the fastest of the device).
        compiled: a scope of llamalab.compile.
        tie_blocks: distinct blocks to run the full depth over; None for all, "auto" for all where they fit, else for
            as few as caches allow.
        threads: of the CPU (default: torch's).
        repetitions: of each test.
        weight_dtype: the storage of quantised matrices (default: they are in `dtype`).
        kv_dtype: the storage of the KV cache (default: as `dtype`).
        repeat_s: seconds for which a disturbed test is repeated at most.
        reference: a record of this machine, whose roofs and constants predictions rest on (default: a short
            measurement; where that fails, rows have the reason instead of a prediction).
        team: the ranks that share the model, of which this one leads (default: none, this process alone).
        weights: of a checkpoint of that architecture (default: random ones).
        progress: called with the label of each step and the share that is done.

    Raises InputError, UnknownNameError or MissingError for options that are not valid, before any work.
    """
    activation_dtype(dtype)
    place = resolve_device(device)
    backend = get_backend(attention) if attention else fastest_backend(place, torch_dtype(dtype))
    if compiled not in SCOPES:
        raise UnknownNameError("compiled", compiled, SCOPES)
    if weight_dtype is not None and weight_dtype not in QUANTISED:
        raise UnknownNameError("weight dtype", weight_dtype, QUANTISED)
    if kv_dtype is not None:
        check_unscaled(kv_dtype, "kv dtype")
        kv_dtype = None if kv_dtype == dtype else kv_dtype
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
    depth = _depth(arch, tie_blocks, least, dtype, kv_dtype, place, backend.algorithm, int(SPARE * free_bytes))
    bench = BenchSettings(
        name=name,
        arch=arch,
        place=place,
        dtype=dtype,
        backend=backend,
        compiled=compiled,
        threads=threads or torch.get_num_threads(),
        repetitions=repetitions,
        depth=depth,
        free_bytes=free_bytes,
        repeat_s=repeat_s,
        team=team,
        weights=None if team is not None else weights,
        weight_dtype=weight_dtype,
        kv_dtype=kv_dtype,
        kernel_rows=None if weight_dtype is None else kernel_rows_here(place, dtype, weight_dtype),
        weight_product=None if weight_dtype is None else product_here(place, dtype, weight_dtype),
    )
    known = None if reference is None else _reference(bench, reference)
    return measured_rows(bench, cases, known, progress)


def _depth(
    arch: LlamaArch,
    tie_blocks: int | str | None,
    least: BenchCase,
    dtype: str,
    kv_dtype: str | None,
    place: torch.device,
    algorithm: str,
    room_bytes: int,
) -> Depth:
    """The blocks to run; all of them where the smallest test then fits."""
    whole = Depth(arch, arch.n_layers)
    if tie_blocks is None:
        return whole
    if tie_blocks == AUTO:
        beside = need_bytes(whole, least, dtype, algorithm, kv_dtype) - whole.held_weight_bytes(dtype)
        return choose_tied(arch, dtype, room_bytes=room_bytes - beside, cache_bytes=effective_cache_bytes(place))
    if type(tie_blocks) is not int or not 1 <= tie_blocks <= arch.n_layers:
        raise InputError(f"tie_blocks must be auto or 1 to the model's {arch.n_layers} blocks; got {tie_blocks!r}")
    return Depth(arch, tie_blocks)


def measured_rows(
    bench: BenchSettings, cases: Sequence[BenchCase], reference: Reference | None, progress: ProgressCallback
) -> Iterator[BenchRow]:
    """A row per case, each as it is done, of a model that is built here or given."""
    # No context stays open over a yield: it would also hold for the caller.
    reference = reference or _measured_reference(bench, progress)
    model: nn.Module | None = None
    for index, case in enumerate(cases):
        row = blank_row(bench, case, reference)

        def step(label: str, share: float, index: int = index, case: BenchCase = case) -> None:
            done = _REFERENCE_DONE + (1 - _REFERENCE_DONE) * (index + share) / len(cases)
            progress(f"{case.test}, batch {case.batch}: {label}", done)

        if reason := reason_too_large(bench, case):
            yield replace(row, reason=reason)
            continue
        try:
            with _threads(bench.threads), torch.inference_mode(), collector_off():
                if model is None:
                    step(f"building {bench.depth.label}", 0.0)
                    model = _built(bench) if bench.given is None else bench.given.model
                    if isinstance(model, Transformer):
                        # Compiling may change the attention, and which kernel runs is known now.
                        reference = reference.for_model(model.backend.algorithm, kept_of(model))
                timed = _measure(bench, model, case, step)
                row = blank_row(bench, case, reference)
                row = replace(row, attention=model.backend.name) if isinstance(model, Transformer) else row
        except (LlamaLabError, torch.OutOfMemoryError) as error:
            yield replace(row, reason=" ".join(str(error).split()))
        else:
            yield filled_row(row, bench, reference, case, timed)
        release_memory(bench.place)
    progress("done", 1.0)


def _measured_reference(bench: BenchSettings, progress: ProgressCallback) -> Reference:
    """Roofs and constants of this machine; where they cannot be had, the reason in the place of every prediction."""
    machine = Machine(bench.place, clock_for(bench.place), bench.dtype, None, bench.weight_dtype, bench.kernel_rows)
    try:
        with _threads(bench.threads):
            record = measure_reference(
                bench.name,
                bench.arch,
                machine,
                weight_bytes=bench.depth.held_weight_bytes(bench.dtype, bench.kept),
                team=bench.team,
                progress=lambda label, done: progress(label, _REFERENCE_DONE * done),
            )
        return _reference(bench, record)
    except (LlamaLabError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:  # it costs a prediction
        release_memory(bench.place)
        record = unmeasured(bench.name, bench.arch, bench.dtype, environment(bench.place, ""), [])
        reason = " ".join(str(error).split()) or type(error).__name__
        return _reference(bench, record, f"not predicted: {reason}")


def _reference(bench: BenchSettings, record: Record, fault: str | None = None) -> Reference:
    return Reference(
        record,
        bench.arch,
        bench.dtype,
        bench.backend.algorithm,
        ranks=bench.ranks,
        fault=fault,
        kept=bench.kept,
        kv_dtype=bench.kv_dtype,
    )


def _built(bench: BenchSettings) -> Transformer:
    tied = bench.depth.distinct if bench.depth.tied else None
    if bench.team is not None:
        return ready_model(
            bench.team,
            bench.arch,
            scope=bench.compiled,
            attention=bench.backend.name,
            dtype=bench.dtype,
            tie_blocks=tied,
            weight_dtype=bench.weight_dtype,
            kernel_rows=bench.kernel_rows,
            products=products_like(bench.place, bench.dtype, bench.arch, bench.ranks),
        )
    model = made_model(bench.arch, bench.weights, dtype=bench.dtype, device=bench.place, distinct=tied)
    return compile(
        model,
        scope=bench.compiled,
        attention=bench.backend.name,
        weight_dtype=bench.weight_dtype,
        kernel_rows=bench.kernel_rows,
        products=products_here(bench.place, bench.dtype, bench.arch, bench.weight_dtype),
    )


def _measure(bench: BenchSettings, model: nn.Module, case: BenchCase, step: Callable[[str, float], None]) -> Timed:
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

    step("warm-up", 0.1)
    began = perf_counter()
    # Compilers and kernels that are planned by length begin anew for one that they have not seen: all run once.
    repeat(steps)
    warmup_s = perf_counter() - began
    kernel = fused_kernel(lambda: repeat(steps[:1]), bench.place)
    before = read_telemetry(bench.place)

    def repetition(number: int) -> list[float]:
        step(f"repetition {number + 1} of {bench.repetitions}", 0.2 + 0.8 * min(1.0, number / bench.repetitions))
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
    """The state of an accelerator while it works; a thread that reads would take time from a host that works itself."""
    return watching(place) if device_of(place).role == "accelerator" else nullcontext()


def _busy(bench: BenchSettings, before: Telemetry) -> list[str]:
    """Whether others used the host's processors before the test; its own repetitions are in the figure after."""
    load, cores = before.load_average, os.cpu_count() or 1
    if device_of(bench.place).role != "host" or load is None or load <= cores:
        return []
    return [f"load average {load:.1f} on {cores} processors"]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many threads of the CPU while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
