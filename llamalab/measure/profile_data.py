"""What a profile of a model leaves behind: plain data, for the command, the report and JSON.

Times are seconds of one occurrence unless they are called total. What is not known is None; `missing`
and `reason` say why. B batch.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from llamalab.records import Environment, Roof, Telemetry

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class OpProfile:
    """One row of the cost table in one phase.

    `calls` in the blocks that ran, `count` in the whole model; `total_s` is time_s x count and `share` is
    of the pass. `device_s` is the time in kernels, `gap_s` the rest of time_s: launches, Python, waiting.
    `flops` are causal matrix FLOPs, `bytes` the analytic traffic. `roof_fraction` is bound over time.
    """

    name: str
    calls: int
    count: int
    time_s: float
    total_s: float
    share: float
    device_s: float | None
    gap_s: float | None
    flops: int
    bytes: int
    flops_per_s: float
    bytes_per_s: float
    roof_fraction: float | None
    predicted_s: float | None
    error: float | None
    kernels: list[str]
    samples_s: list[float]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryMoment:
    """The most that was alive while one operation ran, by category, above weights and cache."""

    op: str
    kv_bytes: int
    activation_bytes: int
    logits_bytes: int
    workspace_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.kv_bytes + self.activation_bytes + self.logits_bytes + self.workspace_bytes


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What one operation had made of the bytes that were alive at the peak."""

    op: str
    category: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """The most alive in one step of the block or the head, beside the predicted; None where it is not predicted."""

    step: str
    measured_bytes: int
    predicted_bytes: int | None
    error: float | None


@dataclass(frozen=True, kw_only=True)
class MemoryProfile:
    """Memory of one pass over time. `peak_bytes` is above weights and cache, and is `at_peak` added up."""

    method: str
    weight_bytes: int
    kv_bytes: int
    peak_bytes: int | None
    peak_op: str | None
    timeline: list[MemoryMoment]
    at_peak: list[Holding]
    steps: list[StepMemory]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """What looking costs: the time of a pass under the instrument over that of a clean one."""

    name: str
    ratio: float
    about: str


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of one token over a window of at least 2 s, the device's idle draw included; None with the reason."""

    joules_per_token: float | None
    window_s: float | None = None
    tokens: int | None = None
    source: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Memory of processes: this one on the host (RSS and its peak, VmHWM), and all on the device by id."""

    resident_bytes: int | None
    peak_resident_bytes: int | None
    device_bytes_by_process: dict[str, int | None] | None
    missing: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PhaseProfile:
    """One phase. `wall_s` is a clean pass of what ran; `named_s` is what the operations account for.

    `outside_s` lies between the operations: work of no row of the cost table, named by `outside`.
    `closure` is (named + outside) / wall - 1; beyond 5 % `missing` says what is the matter.
    """

    phase: str
    batch: int
    new_tokens: int
    context_tokens: int
    layers_measured: int
    layers_total: int
    kernel: str | None
    wall_s: float
    wall_samples_s: list[float]
    named_s: float
    outside_s: float
    outside: str
    closure: float
    missing: str | None
    ops: list[OpProfile]
    memory: MemoryProfile
    instruments: list[Instrument]
    before: Telemetry
    after: Telemetry
    throttled: list[str] | None
    energy: Energy
    usage: Usage

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the pass over its wall time, for what ran."""
        return self.batch * self.new_tokens / self.wall_s


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A profiled model. `kind` is llamalab or transformers."""

    kind: str
    model: str
    arch: dict[str, Any]
    dtype: str
    attention: str
    algorithm: str
    environment: Environment
    roofs: list[Roof]
    phases: list[PhaseProfile]
    notes: list[str] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def phase(self, name: str) -> PhaseProfile:
        """The phase of that name."""
        return next(one for one in self.phases if one.phase == name)


def to_json(profile: Profile) -> str:
    """The profile as indented JSON."""
    return json.dumps(dataclasses.asdict(profile), indent=1, allow_nan=False) + "\n"
