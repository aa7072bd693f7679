"""A ceiling of the machine, as a measuring run stores it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Roof:
    """A ceiling of the machine, from a probe that checks itself by doubling its work.

    `kind`: gemm (matrix product, FLOP/s), stream (weights read by a one-token product, byte/s),
    copy (bytes read plus written by a copy or sum larger than the caches, byte/s), cache (the same
    on buffers that stay in the last-level cache, byte/s: the ceiling of small activations),
    attention (fused attention, causal FLOP/s), launch (fixed time of the smallest operation, in
    `seconds`).
    `capacity_bytes` of a cache roof is the size of that cache. `raised_by` names the operation or pass of the run that
    was faster than every probe: the roof is then its rate, and `probed_per_second` the best of the probes.
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
