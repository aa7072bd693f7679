"""The speed of the built-in model, test by test: prompt processing and generation over depth and batch.

As in llama-bench: a warm-up, then repetitions of each test on a cache that holds `depth` tokens and is rewound to them.
A test whose repetitions disagree is repeated within a budget, and its row says so. Every forward pass is timed
separately; on CUDA by events, with one synchronisation per repetition. The kernel is read from the profiler in a
separate pass, after the warm-up and outside all times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.checkpoints.checkpoint import Weights
from llamalab.choices import SCOPES
from llamalab.errors import InputError, LlamaLabError, UnknownNameError
from llamalab.measure.bench.one_case import measure_case
from llamalab.measure.bench.pace import Pace
from llamalab.measure.bench.reference import Reference
from llamalab.measure.bench.reference_here import reference_from, reference_here, torch_threads
from llamalab.measure.bench.rows import BenchCase, BenchRow
from llamalab.measure.bench.settings import BenchSettings, blank_row, filled_row, need_bytes, reason_too_large
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import (
    available_bytes,
    release_memory,
    resolve_device,
)
from llamalab.measure.roofs.kernel_rows import kernel_rows_here, product_here
from llamalab.measure.roofs.shape_products import products_here, products_like
from llamalab.measure.target.blocks import SPARE, Depth, choose_tied
from llamalab.measure.target.made import made_model
from llamalab.measure.timing.deadline import ProgressCallback
from llamalab.measure.timing.timer import collector_off
from llamalab.model import Transformer, torch_dtype
from llamalab.model.compiled import compile
from llamalab.model.dtypes import check_number_formats
from llamalab.model.fastest import fastest_backend
from llamalab.model.quantised.weights import kept_of
from llamalab.parallel.models import ready_model
from llamalab.parallel.team import Team
from llamalab.plain_text import sentence
from llamalab.records.record import Record

AUTO = "auto"
REPEAT_S = 10.0  # for further repetitions of a disturbed test


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
    check_number_formats(dtype, weight_dtype, kv_dtype)
    place = resolve_device(device)
    backend = get_backend(attention) if attention else fastest_backend(place, torch_dtype(dtype))
    if compiled not in SCOPES:
        raise UnknownNameError("compiled", compiled, SCOPES)
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
    known = None if reference is None else reference_from(bench, reference)
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
    """The blocks to run: all of them where the smallest test then fits."""
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
    """A row per case, each as it is done, for a model built here or passed in."""
    # No context manager stays open over a yield, where it would also affect the caller.
    too_large = {case: reason for case in cases if (reason := reason_too_large(bench, case))}
    running = [case for case in cases if case not in too_large]
    pace = Pace(progress, bench.repetitions + 1)
    reference = reference or reference_here(bench, running, pace)
    pace.expect([reference.predicted_s(case) for case in running])
    model: nn.Module | None = None
    for case in cases:
        row = blank_row(bench, case, reference)
        if case in too_large:
            yield replace(row, reason=too_large[case])
            continue

        def step(label: str, share: float, case: BenchCase = case) -> None:
            pace.test(running.index(case), f"{case.test}, batch {case.batch}: {label}", share)

        try:
            with torch_threads(bench.threads), torch.inference_mode(), collector_off():
                if model is None:
                    step(f"building {bench.depth.label}", 0.0)
                    model = _built(bench) if bench.given is None else bench.given.model
                    if isinstance(model, Transformer):
                        # Compilation may change the attention; the kernel is known only now.
                        reference = reference.for_model(model.backend.algorithm, kept_of(model))
                timed = measure_case(bench, model, case, step)
                row = blank_row(bench, case, reference)
                row = replace(row, attention=model.backend.name) if isinstance(model, Transformer) else row
        except (LlamaLabError, torch.OutOfMemoryError) as error:
            yield replace(row, reason=sentence(str(error), 200))
        else:
            yield filled_row(row, bench, reference, case, timed)
        release_memory(bench.place)
    pace.finish()


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
