"""The results of a report's run as plain data: the only interface between the torch zone, which measures, and the
report, which renders; `record_json` writes and reads it.

Raw samples are kept. Predictions are not: they are computed from the record when it is read.
Unmeasured values are null with a reason, never 0.
"""

from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any, Literal

from llamalab.arch import LlamaArch
from llamalab.formatting import formats
from llamalab.records.environment import Environment
from llamalab.records.patterns import Patterns
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.ranks import RanksRun
from llamalab.records.roof import Roof
from llamalab.units import KeptWeights

RECORD_SCHEMA = 1
BasisWord = Literal["measured", "extrapolated"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Samples of one operation or part; `count` is its number of occurrences in the whole model.

    `name` is a row of the cost table, or embedding, block, head, step for clean passes.
    """

    name: str
    samples_s: list[float]
    count: int = 1
    basis: BasisWord = "measured"
    kernel: str | None = None

    @property
    def median_s(self) -> float:
        """Median of the samples, in seconds, for one occurrence."""
        return median(self.samples_s)

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """First and third quartile of the samples, in seconds."""
        if len(self.samples_s) < 2:
            return self.samples_s[0], self.samples_s[0]
        first, _, third = quantiles(self.samples_s, n=4, method="inclusive")
        return first, third


NOT_LOOKED = "not looked at"  # the method of a memory for which there was no time


@dataclass(frozen=True, kw_only=True)
class MeasuredMemory:
    """Peak bytes of one pass above the bytes before it, by the named method.

    `resident_bytes` are weights and cache. `process_peak_bytes` is the same peak as the operating system or the
    device's allocator reports it, including library scratch and slack.
    """

    peak_bytes: int | None
    method: str
    resident_bytes: int | None = None
    process_peak_bytes: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One phase of the model, measured: clean wall times by part, then an op-by-op pass.

    `attention` is the backend's name, `algorithm` its cost model (flash or naive), `kernel` the one in the profiler's
    trace. `product` is the kind of matrix product: packed (oneDNN, on a CPU), plain, or a kernel of quantised weights;
    null in records of older versions. `kv_dtype` is the storage of the KV cache, null where it is in `dtype`.
    `layers_measured` of `layers_total` blocks were run. `whole_s` are the times of the measured part of the model
    (embedding, `layers_measured` blocks, head) without any tap; `observer_ratio` is the time of the op-by-op pass over
    that. `interval_s` holds the median of `total_s` with about 95 %: wider with fewer rounds.
    """

    phase: str
    batch: int
    new_tokens: int
    context_tokens: int
    dtype: str
    attention: str
    algorithm: str
    kernel: str | None
    layers_measured: int
    layers_total: int
    parts: list[Measurement]
    ops: list[Measurement]
    memory: MeasuredMemory
    observer_ratio: float | None = None
    whole_s: list[float] = field(default_factory=list)
    interval_s: list[float] | None = None
    product: str | None = None
    ranks: int = 1
    kv_dtype: str | None = None

    def part(self, name: str) -> Measurement:
        """The clean measurement of one part of the model."""
        return next(part for part in self.parts if part.name == name)

    @property
    def total_s(self) -> float:
        """Median seconds of the whole model's pass: the parts times their counts."""
        return sum(part.median_s * part.count for part in self.parts)

    @property
    def basis(self) -> BasisWord:
        """Extrapolated where not every block was run."""
        return "measured" if self.layers_measured == self.layers_total else "extrapolated"


@dataclass(frozen=True, kw_only=True)
class AttentionPoint:
    """One attention backend at one sequence length, alone; null samples have a reason."""

    backend: str
    algorithm: str
    batch: int
    new_tokens: int
    context_tokens: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    dtype: str
    kernel: str | None
    samples_s: list[float]
    peak_bytes: int | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything one `llamalab report` run measured.

    `parameters_measured` counts the whole model's tensors; `kv_bytes_measured` is the size of a
    cache, as allocated, of the whole model for batch and context of the last pass. `constants` are those that
    llamalab calibrate had stored for that machine and dtype, if any. `profile` has the same passes op by op, with
    memory and kernels; null in records of older versions, and where the time did not suffice. `ranks` are the passes of
    several ranks, null where there was one. `budget_s` is the time given to the run, null without a limit.
    `weight_dtype` is the storage of quantised matrices, null where they are in `dtype`; their kernel multiplies up to
    `kernel_rows` rows. `generate_tokens` are those of the predicted run, null where none were given. `patterns` are the
    attention shares of a checkpoint's heads over a sentence, null for random weights.
    """

    model: str
    arch: dict[str, Any]
    dtype: str
    environment: Environment
    roofs: list[Roof]
    passes: list[Pass]
    attention: list[AttentionPoint]
    parameters_measured: int
    kv_bytes_measured: int
    elapsed_s: float
    notes: list[str] = field(default_factory=list)
    constants: dict[str, Any] | None = None
    ranks: RanksRun | None = None
    profile: list[PhaseProfile] | None = None
    budget_s: float | None = None
    weight_dtype: str | None = None
    kernel_rows: int | None = None
    generate_tokens: int | None = None
    patterns: Patterns | None = None
    schema_version: int = RECORD_SCHEMA

    @property
    def llama_arch(self) -> LlamaArch:
        """The architecture, validated."""
        return LlamaArch.from_dict(self.arch)

    @property
    def kv_dtype(self) -> str | None:
        """The storage of the KV cache; None where it is in `dtype`."""
        return self.passes[0].kv_dtype if self.passes else None

    @property
    def formats(self) -> str:
        """In words, the number formats of the run."""
        return formats(self.dtype, self.weight_dtype, self.kv_dtype)

    @property
    def kept(self) -> KeptWeights | None:
        """The storage of quantised matrices; None where they are in `dtype`."""
        product = self.passes[0].product if self.passes else None
        return None if self.weight_dtype is None else KeptWeights(self.weight_dtype, product, self.kernel_rows)

    def phase(self, name: str) -> Pass:
        """The first pass of a phase."""
        return next(one for one in self.passes if one.phase == name)

    def roof(self, kind: str, dtype: str) -> Roof | None:
        """The roof of a kind, or None where there is none."""
        return next((roof for roof in self.roofs if (roof.kind, roof.dtype) == (kind, dtype)), None)


def unmeasured(
    model: str,
    arch: LlamaArch,
    dtype: str,
    environment: Environment,
    roofs: list[Roof],
    constants: dict[str, Any] | None = None,
    *,
    generate_tokens: int | None = None,
) -> Record:
    """A record of a model with the basis of its predictions, before any measurement."""
    return Record(
        model=model,
        arch=arch.as_dict(),
        dtype=dtype,
        environment=environment,
        roofs=roofs,
        passes=[],
        attention=[],
        parameters_measured=0,
        kv_bytes_measured=0,
        elapsed_s=0.0,
        constants=constants,
        generate_tokens=generate_tokens,
    )
