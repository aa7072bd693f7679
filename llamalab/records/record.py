"""What a measuring run leaves behind: plain data, to JSON and back. The only bridge between the
torch zone, which measures, and the report, which renders.

Raw samples are kept. Predictions are not: they are made anew from the record when it is read.
What could not be measured is null with a reason, never 0.
"""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any, Literal

from llamalab.arch import LlamaArch
from llamalab.errors import FormatError
from llamalab.input_files import parse_json, read_bounded_text
from llamalab.records.codec import build
from llamalab.records.patterns import Patterns
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.phase_profile import Telemetry as Telemetry
from llamalab.records.ranks import RanksRun
from llamalab.units import KeptWeights, formats

RECORD_SCHEMA = 1
EMBEDDED = '<script type="application/json" id="record">'  # before the JSON in a page (report/templates/page.html)
BasisWord = Literal["measured", "extrapolated"]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where and how a run was made. Holds no host, user or path.

    `device` is cpu or cuda; `memory_bytes` is that device's memory.
    """

    llamalab: str
    python: str
    torch: str
    device: str
    device_name: str
    memory_bytes: int
    threads: int
    interop_threads: int
    os: str
    command: str
    started_at: str
    cuda: str | None = None
    driver: str | None = None
    cudnn: str | None = None
    git_revision: str | None = None
    git_dirty: bool | None = None
    before: Telemetry | None = None
    after: Telemetry | None = None


@dataclass(frozen=True, kw_only=True)
class Roof:
    """A ceiling of the machine, found by a probe that checks itself.

    `kind`: gemm (matrix product, FLOP/s), stream (weights read by a one-token product, byte/s),
    copy (bytes read plus written by a copy or sum larger than the caches, byte/s), cache (the same
    on buffers that stay in the last-level cache, byte/s: the ceiling of small activations),
    attention (fused attention, causal FLOP/s), launch (fixed time of the smallest operation, in
    `seconds`).
    `capacity_bytes` of a cache roof is the size of that cache: what is larger does not stay in it.
    `raised_by` says which operation or pass of the run was faster than every probe: the roof is then its rate, and
    `probed_per_second` the best of the probes.
    `doubling_ratio` is the time of doubled work over the time of the work: trusted from 1.8 to 2.2.
    """

    kind: str
    dtype: str
    per_second: float | None
    seconds: float | None = None
    shape: str = ""
    samples_s: list[float] = field(default_factory=list)
    doubling_ratio: float | None = None
    trusted: bool = True
    reason: str | None = None
    capacity_bytes: int | None = None
    raised_by: str | None = None
    probed_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Times of one thing. `count` is how often the whole model does it.

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


@dataclass(frozen=True, kw_only=True)
class MeasuredMemory:
    """Peak bytes of one pass above what was held before it, by the named method.

    `resident_bytes` is what weights and cache held. `process_peak_bytes` is the same peak as the
    operating system or the device's allocator sees it, library scratch and slack included.
    """

    peak_bytes: int | None
    method: str
    resident_bytes: int | None = None
    process_peak_bytes: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One phase of the model, measured: clean wall times by part, then an op-by-op pass.

    `attention` is the backend's name, `algorithm` the cost model it follows (flash or naive),
    `kernel` what the profiler saw run. `product` is how weights were multiplied: packed (oneDNN, on a CPU), plain, or a
    kernel of quantised ones; null in records of older versions. `kv_dtype` is the storage of the KV cache, null where
    it is in `dtype`. `layers_measured` of `layers_total` blocks were run.
    `whole_s` are the times of the measured part of the model (embedding, `layers_measured` blocks,
    head) run without any tap; `observer_ratio` is the time of the op-by-op pass over that. `interval_s`
    is where the median of `total_s` lies with about 95 %: wider with fewer rounds.
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
    """One attention backend at one sequence length, by itself; null samples carry a reason."""

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
    cache, as allocated, of the whole model for batch and context of the last pass. `constants` is
    what llamalab calibrate had written for that machine and dtype, where it had. `profile` has the
    same passes op by op, in depth; null in records of older versions, and where there was no time to look.
    `ranks` is what several ranks measured together, null where there was one.
    `budget_s` is the time that the run was given, null where it had all that it wanted. `weight_dtype` is the storage
    of quantised matrices, null where they are in `dtype`; their kernel multiplies up to `kernel_rows` rows.
    `generate_tokens` are those of the run that predictions are of, null where it was not said. `patterns` is what the
    heads of a checkpoint look at in a sentence, null where weights were random.
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
        """How quantised matrices are kept; None where they are in `dtype`."""
        product = self.passes[0].product if self.passes else None
        return None if self.weight_dtype is None else KeptWeights(self.weight_dtype, product, self.kernel_rows)

    def phase(self, name: str) -> Pass:
        """The first pass of a phase."""
        return next(one for one in self.passes if one.phase == name)

    def roof(self, kind: str, dtype: str) -> Roof | None:
        """The roof of a kind, or None where it was not found."""
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
    """A record that knows its model and what predictions rest on, and nothing of what has still to be measured."""
    return Record(
        model=model, arch=arch.as_dict(), dtype=dtype, environment=environment, roofs=roofs, passes=[], attention=[],
        parameters_measured=0, kv_bytes_measured=0, elapsed_s=0.0, constants=constants,
        generate_tokens=generate_tokens,
    )  # fmt: skip


def to_json(record: Record) -> str:
    """The record as indented JSON."""
    return json.dumps(dataclasses.asdict(record), indent=1, allow_nan=False) + "\n"


def shown_text(path: str | os.PathLike[str], what: str) -> str:
    """The JSON of a record or of profiles, from their own file or from the page that embeds it.

    Errors as for read_bounded_text, and FormatError for a page without either; `what` names the file in them.
    """
    text = read_bounded_text(path, what)
    if not text.lstrip().startswith("<"):
        return text
    _, _, after = text.partition(EMBEDDED)
    data, end, _ = after.partition("</script>")
    if not end:
        raise FormatError(f"the {what} must be JSON, or a page that embeds it; {os.fspath(path)} embeds none")
    return data


def from_json(text: str, *, source: str = "the record") -> Record:
    """Read a record back. Raises FormatError where it is not one, or of another schema."""
    data = parse_json(text, source)
    if not isinstance(data, dict) or "schema_version" not in data:
        raise FormatError(f"{source} must be a record that llamalab wrote; it has no schema_version")
    if data["schema_version"] != RECORD_SCHEMA:
        raise FormatError(
            f"{source} must have schema_version {RECORD_SCHEMA}; got {data['schema_version']!r}; measure anew"
        )
    record = build(Record, data, source)
    assert isinstance(record, Record)
    try:
        fault = _fault(record)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source} must hold a Llama's sizes; {error}") from None
    if fault is not None:
        raise FormatError(f"{source} must hold a sound measurement; {fault}")
    return record


def _fault(record: Record) -> str | None:
    """What types cannot say: the first thing in a record that nothing could be computed from.

    Raises TypeError or InputError where `arch` is no architecture.
    """
    record.llama_arch  # noqa: B018  # raises where its fields cannot be
    for one in record.passes:
        if not 1 <= one.new_tokens <= one.context_tokens or one.batch < 1:
            return f"{one.phase} has {one.new_tokens} new tokens in a context of {one.context_tokens}"
        if not 1 <= one.layers_measured <= one.layers_total:
            return f"{one.phase} measured {one.layers_measured} of {one.layers_total} blocks"
        for row in (*one.parts, *one.ops):
            if not row.samples_s or row.count < 1:
                return f"{row.name} in {one.phase} has no sample or no occurrence"
    for profiled in record.profile or ():
        if profiled.fault is not None:
            return f"the profile of {profiled.phase} {profiled.fault}"
    if record.patterns is not None and record.patterns.fault is not None:
        return f"attention in {record.patterns.text[:40]!r} {record.patterns.fault}"
    times = [row.samples_s for one in record.passes for row in (*one.parts, *one.ops)]
    times += [one.samples_s for one in record.roofs] + [one.samples_s for one in record.attention]
    return "a time is negative" if any(sample < 0 for samples in times for sample in samples) else None
