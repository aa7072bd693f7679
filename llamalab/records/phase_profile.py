"""The results of one profiled phase as plain data: time, kernels, memory and the device's state.

Times are seconds of one occurrence unless named total. Unknown values are None; `missing` and `reason` say why. B
batch.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """The device's state at one moment; null where the system does not report it, with the reason.

    `load_average` is the 1-minute load of the host; `throttle_reasons` is empty when none holds.
    """

    clock_hz: int | None = None
    memory_clock_hz: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle_reasons: list[str] | None = None
    load_average: float | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OpProfile:
    """One row of the cost table in one phase.

    `calls` in the blocks that ran, `count` in the whole model; `total_s` is time_s x count and `share` is
    of the pass. `device_s` is the time in kernels, `gap_s` the rest of time_s: launches, Python, waiting.
    `flops` are causal matrix FLOPs, `bytes` the analytic traffic. `roof_fraction` is bound over time.
    `layers_s` has the median of each block that ran, none where the operation is in no block; samples are
    empty in a record of llamalab report, whose passes have them.
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
    layers_s: list[float] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryMoment:
    """The most live bytes while one operation ran, by category, above the bytes before the pass."""

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
    """Live bytes at the peak that one operation had allocated."""

    op: str
    category: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """The most live bytes in one step of the block or the head, and the predicted; None without a prediction."""

    step: str
    measured_bytes: int
    predicted_bytes: int | None
    error: float | None


@dataclass(frozen=True, kw_only=True)
class MemoryProfile:
    """Memory of one pass over time. `peak_bytes` is above weights and cache, and is `at_peak` added up.

    `timeline` leaves out blocks whose live bytes equal those of the block before, operation by operation.
    """

    method: str
    weight_bytes: int
    kv_bytes: int
    peak_bytes: int | None
    peak_op: str | None
    timeline: list[MemoryMoment]
    at_peak: list[Holding]
    steps: list[StepMemory]
    reason: str | None = None

    @property
    def predicted_peak_bytes(self) -> int | None:
        """The largest step's prediction; None where no step has one."""
        return max((step.predicted_bytes for step in self.steps if step.predicted_bytes is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """The cost of an instrument: the time of a pass under it over that of a clean one."""

    name: str
    ratio: float
    about: str


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of one token over a window of at least 2 s, including the device's idle power; None with the reason."""

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
    """One phase. `wall_s` is a clean pass of the blocks that ran; `named_s` is the sum over operations.

    `outside_s` lies between the operations: work outside the cost table, named by `outside`.
    `closure` is (named + outside) / wall - 1; beyond 5 % `missing` gives the cause.
    `before`, `during` (while a pass ran) and `after` are the device's states.
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
    during: Telemetry | None = None

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the pass over its wall time, for the blocks that ran."""
        return self.batch * self.new_tokens / self.wall_s

    @property
    def states(self) -> list[tuple[str, Telemetry]]:
        """The moments at which the device's state was read, in order, with the state."""
        moments = (("before", self.before), ("during", self.during), ("after", self.after))
        return [(moment, state) for moment, state in moments if state is not None]

    @property
    def fault(self) -> str | None:
        """The first inconsistent value; None where there is none."""
        if min(self.wall_s, self.batch, self.new_tokens) <= 0:
            return "has no time or no tokens"
        if not 1 <= self.layers_measured <= self.layers_total:
            return f"ran {self.layers_measured} of {self.layers_total} blocks"
        times = [self.named_s, self.outside_s, *self.wall_samples_s]
        for op in self.ops:
            if op.layers_s and len(op.layers_s) != self.layers_measured:
                return f"has {len(op.layers_s)} blocks of {op.name} where {self.layers_measured} ran"
            times += [op.time_s, op.total_s, op.device_s or 0.0, *op.layers_s]
        return "has a negative time" if min(times) < 0 else None
