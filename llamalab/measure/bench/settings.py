"""The rows of a bench, from its settings and measurements: before a test has run, and after."""

from dataclasses import replace
from typing import NamedTuple

import torch

from llamalab.analytic.kept_weights import model_weight_bytes
from llamalab.analytic.params import parameter_count
from llamalab.arch import LlamaArch
from llamalab.arch.positions import beyond_positions
from llamalab.attention import Backend
from llamalab.checkpoints.checkpoint import Weights
from llamalab.formatting import format_bytes
from llamalab.measure.bench.reference import Reference
from llamalab.measure.bench.rows import MEASURED, MEASURED_TIED, BenchCase, BenchRow
from llamalab.measure.device.machine import device_name, device_of
from llamalab.measure.target.blocks import SPARE, Depth
from llamalab.measure.target.made import weights_origin
from llamalab.measure.target.target import Target
from llamalab.parallel.team import Team
from llamalab.units import KeptWeights


class BenchSettings(NamedTuple):
    """The settings that all tests of a bench share."""

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
    weights: Weights | None = None
    given: Target | None = None
    weight_dtype: str | None = None
    kv_dtype: str | None = None
    kernel_rows: int | None = None
    weight_product: str | None = None
    team: Team | None = None

    @property
    def ranks(self) -> int:
        """Processes that share the model."""
        return 1 if self.team is None else self.team.place.ranks

    @property
    def kept(self) -> KeptWeights | None:
        """The storage of matrices as far as it is known before they are made; None for `dtype`."""
        return (
            None if self.weight_dtype is None else KeptWeights(self.weight_dtype, self.weight_product, self.kernel_rows)
        )

    def need_bytes(self, case: BenchCase) -> int:
        """Weights, cache and activations of a test."""
        return need_bytes(self.depth, case, self.dtype, self.backend.algorithm, self.kv_dtype)


class Timed(NamedTuple):
    """The measurements of one test; `passes_s` has the seconds of every pass, by repetition."""

    warmup_s: float
    passes_s: list[list[float]]
    kernel: str | None
    memory_bytes: int | None
    throttle_reasons: list[str] | None
    load_average: float | None
    disturbances: list[str]
    product: str


def need_bytes(depth: Depth, case: BenchCase, dtype: str, algorithm: str, kv_dtype: str | None = None) -> int:
    """Weights, cache and activations of a test over the blocks of `depth`."""
    new_tokens = max(1, case.prompt)
    return depth.need_bytes(
        batch=case.batch,
        new_tokens=new_tokens,
        max_tokens=case.context,
        dtype=dtype,
        attention=algorithm,
        kv_dtype=kv_dtype,
    )


def reason_too_large(bench: BenchSettings, case: BenchCase) -> str | None:
    """Why a test exceeds this memory; None where it fits."""
    need = bench.need_bytes(case)
    if need <= SPARE * bench.free_bytes:
        return None
    remedy = "take a smaller batch or depth" if bench.depth.tied else "tie blocks, or take a smaller batch or depth"
    return (
        f"{bench.depth.label} with cache and activations must fit into {SPARE:.0%} of the free memory, "
        f"{format_bytes(bench.free_bytes)}; they need {format_bytes(need)}; {remedy}"
    )


def blank_row(bench: BenchSettings, case: BenchCase, reference: Reference) -> BenchRow:
    """The row of a test that was not run: settings, sizes and the prediction."""
    predicted = reference.predicted_s(case)
    known = not isinstance(predicted, str)
    return BenchRow(
        model=bench.name,
        size_bytes=model_weight_bytes(bench.arch, bench.dtype, bench.kept),
        parameters=parameter_count(bench.arch),
        backend=bench.place.type,
        device=device_name(bench.place),
        threads=bench.threads,
        dtype=bench.dtype,
        weight_dtype=bench.weight_dtype,
        kv_dtype=bench.kv_dtype,
        kernel_rows=bench.kernel_rows,
        attention=bench.given.attention if bench.given else bench.backend.name,
        kernel=None,
        weights="in memory" if bench.given else weights_origin(bench.weights),
        compiled=bench.compiled,
        blocks_distinct=bench.depth.distinct,
        blocks_total=bench.arch.n_layers,
        blocks=bench.depth.label,
        ranks=bench.ranks,
        test=case.test,
        prompt_tokens=case.prompt,
        generated_tokens=case.generate,
        depth_tokens=case.depth,
        batch=case.batch,
        basis=None,
        predicted_tokens_per_s=case.tokens / predicted if not isinstance(predicted, str) else None,
        prediction_basis=reference.words if known else None,
        prediction_reason=predicted if isinstance(predicted, str) else None,
        remarks=[*filter(None, [beyond_positions(bench.arch, case.context)])],
    )


def filled_row(row: BenchRow, bench: BenchSettings, reference: Reference, case: BenchCase, timed: Timed) -> BenchRow:
    """The row of a test that ran: times, rates, and their shares of the roofs."""
    row = replace(
        row,
        basis=MEASURED_TIED if bench.depth.tied else MEASURED,
        kernel=timed.kernel,
        product=timed.product,
        warmup_s=timed.warmup_s,
        passes_s=timed.passes_s,
        memory_bytes=timed.memory_bytes,
        memory_method=device_of(bench.place).held_method,
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
    """The share of a roof, at most 1."""
    return min(1.0, rate / roof) if roof else None
