"""The differences of two runs: rows, their share of the whole, whether they exceed noise, and their causes.

Deltas of operations and of the time outside of them add up to that of their phase. Intervals are bootstrapped from the
raw samples of both runs (percentile method, medians, 95 %): they cover the variation within a run, not that between
repeated runs.
"""

import random
from collections.abc import Sequence
from math import isnan
from statistics import median

from llamalab.formatting import format_ratio
from llamalab.records.run import OpTime, Run, RunPhase
from llamalab.records.run_frames import REST, joined_ops
from llamalab.startup.hints import Any, NamedTuple

RESAMPLES = 1000
FEWEST = 4  # samples of each; fewer give no interval
OUTSIDE = "launches, Python and waiting between operations, or clocks that time them apart and together"
LIKE = 0.02  # relative difference below which amounts of work, clocks and efficiencies count as equal
NO_OP = OpTime("", 0.0)


class Delta(NamedTuple):
    """One row: an operation of a phase, the time outside of all, or a whole phase (`op` is None).

    `share` is of the sum of the absolute deltas of the phase's rows. `interval_s` holds the delta with 95 %; None with
    too few samples. `seen` says whether the delta exceeds noise: None where that is unknown. `basis` is that of both
    times, measured, extrapolated or predicted, or of each.
    """

    phase: str
    op: str | None
    a_s: float | None
    b_s: float | None
    delta_s: float
    share: float
    interval_s: tuple[float, float] | None
    seen: bool | None
    why: str
    basis: str


class PhaseDelta(NamedTuple):
    """A phase of both runs: the whole, and its rows, the largest first, which add up to it."""

    whole: Delta
    rows: tuple[Delta, ...]


def compare_runs(a: Run, b: Run) -> tuple[PhaseDelta, ...]:
    """The phases that both runs have, in the order of `a`; matched by name, or by kind where there is one of each."""
    elsewhere = None not in (a.device, b.device) and a.device != b.device
    pairs = [(one, _partner(one, a, b)) for one in a.phases]
    return tuple(_compare(one, other, elsewhere) for one, other in pairs if other is not None)


def unmatched(a: Run, b: Run) -> list[str]:
    """Names of the phases in only one of the runs."""
    taken = [(one, _partner(one, a, b)) for one in a.phases]
    alone = [one.name for one, other in taken if other is None]
    return alone + [other.name for other in b.phases if all(other is not found for _, found in taken)]


def differing(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Settings that both runs state and that differ."""
    settings = {"model": (a.model, b.model), "device": (a.device, b.device)}
    settings |= {key: (a.settings[key], b.settings[key]) for key in a.settings if key in b.settings}
    return {key: pair for key, pair in settings.items() if None not in pair and pair[0] != pair[1]}


def _partner(one: RunPhase, a: Run, b: Run) -> RunPhase | None:
    by_name = next((other for other in b.phases if other.name == one.name), None)
    if by_name is not None or one.kind == "other":
        return by_name
    ours, theirs = ([phase for phase in run.phases if phase.kind == one.kind] for run in (a, b))
    return theirs[0] if len(ours) == len(theirs) == 1 else None


def _compare(a: RunPhase, b: RunPhase, elsewhere: bool) -> PhaseDelta:
    interval = bootstrap(a.samples_s, b.samples_s, a.total_s, b.total_s)
    seen = a.total_s != b.total_s if a.basis == b.basis == "predicted" else _seen(interval)  # no noise
    whole = Delta(
        phase=a.name,
        op=None,
        a_s=a.total_s,
        b_s=b.total_s,
        delta_s=b.total_s - a.total_s,
        share=1.0,
        interval_s=interval,
        seen=seen,
        why=_why_phase(a, b, interval),
        basis=_basis(a, b),
    )
    return PhaseDelta(whole, _rows(a, b, elsewhere))


def _rows(a: RunPhase, b: RunPhase, elsewhere: bool) -> tuple[Delta, ...]:
    """The rows of the joined frame, each with its interval and causes."""
    if not a.ops or not b.ops:
        return ()
    ours, theirs = ({op.name: op for op in phase.ops} for phase in (a, b))
    rows = []
    for op, a_s, b_s, delta_s, share in joined_ops(a, b).itertuples(name=None):
        one, other = ours.get(op), theirs.get(op)
        x, y = one or NO_OP, other or NO_OP
        interval = bootstrap(x.samples_s, y.samples_s, x.total_s, y.total_s)
        rows.append(
            Delta(
                phase=a.name,
                op=op,
                a_s=None if isnan(a_s) else a_s,
                b_s=None if isnan(b_s) else b_s,
                delta_s=delta_s,
                share=share,
                interval_s=interval,
                seen=_seen(interval),
                why=OUTSIDE if op == REST else _why(one, other, (a, b), elsewhere, interval),
                basis=_basis(a, b),
            )
        )
    return tuple(rows)


def bootstrap(
    a: Sequence[float], b: Sequence[float], a_total: float, b_total: float, *, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of b - a, from resampled medians scaled to the totals; None with too few samples of either.

    >>> bootstrap([1.0] * 9, [2.0] * 9, 1.0, 2.0)
    (1.0, 1.0)
    """
    if min(len(a), len(b)) < FEWEST:
        return None
    draw = random.Random(seed)
    scale_a, scale_b = a_total / median(a), b_total / median(b)
    deltas = sorted(
        scale_b * median(draw.choices(b, k=len(b))) - scale_a * median(draw.choices(a, k=len(a)))
        for _ in range(RESAMPLES)
    )
    return deltas[round(0.025 * (RESAMPLES - 1))], deltas[round(0.975 * (RESAMPLES - 1))]


def _basis(a: RunPhase, b: RunPhase) -> str:
    return a.basis if a.basis == b.basis else f"{a.basis} against {b.basis}"


def _seen(interval: tuple[float, float] | None) -> bool | None:
    return None if interval is None else not interval[0] <= 0.0 <= interval[1]


def _why_phase(a: RunPhase, b: RunPhase, interval: tuple[float, float] | None) -> str:
    shapes = [(name, getattr(a, name), getattr(b, name)) for name in ("batch", "new_tokens", "context_tokens")]
    changed = [f"{name.replace('_', ' ')} {x} and {y}" for name, x, y in shapes if None not in (x, y) and x != y]
    if changed:
        return f"other work: {', '.join(changed)}"
    return _judged(interval) or _clock(a, b) or ""


def _why(
    one: OpTime | None,
    other: OpTime | None,
    phases: tuple[RunPhase, RunPhase],
    elsewhere: bool,
    interval: tuple[float, float] | None,
) -> str:
    """The causes of a difference, the most specific first."""
    if one is None or other is None:
        return "only in B" if one is None else "only in A"
    causes = [_work(one, other)]
    if causes[0] is None and (judged := _judged(interval)):
        return judged
    causes += [_kernel(one, other), _gaps(one, other), _clock(*phases)]
    found = [cause for cause in causes if cause]
    return "; ".join(found) if found else _efficiency(one, other, elsewhere)


def _judged(interval: tuple[float, float] | None) -> str | None:
    return "no difference seen" if _seen(interval) is False else None


def _work(one: OpTime, other: OpTime) -> str | None:
    """More or less work, by the larger change of FLOPs and bytes."""
    pairs = [(kind, x, y) for kind, x, y in (("FLOPs", one.flops, other.flops), ("bytes", one.bytes, other.bytes))]
    changes = [(kind, y / x) for kind, x, y in pairs if x and y and abs(y / x - 1) > LIKE]
    if not changes:
        return None
    kind, ratio = max(changes, key=lambda change: abs(change[1] - 1))
    return f"{'more' if ratio > 1 else 'less'} work: {format_ratio(ratio)} × the {kind}"


def _kernel(one: OpTime, other: OpTime) -> str | None:
    if one.kernel and other.kernel and one.kernel != other.kernel:
        return f"another kernel: {other.kernel} for {one.kernel}"
    return None


def _gaps(one: OpTime, other: OpTime) -> str | None:
    """Whether most of the difference is in gaps between kernels."""
    if one.gap_s is None or other.gap_s is None:
        return None
    delta, gap = other.total_s - one.total_s, other.gap_s - one.gap_s
    return "launch gaps: the time between kernels" if delta and gap / delta > 0.5 else None


def _clock(a: RunPhase, b: RunPhase) -> str | None:
    if a.clock_hz and b.clock_hz and abs(b.clock_hz / a.clock_hz - 1) > LIKE:
        return f"another clock: {b.clock_hz / 1e6:,.0f} MHz for {a.clock_hz / 1e6:,.0f} MHz"
    return None


def _efficiency(one: OpTime, other: OpTime, elsewhere: bool) -> str:
    """The same work at another rate, where the work is known; else nothing."""
    if not one.total_s or not other.total_s or not (one.flops or one.bytes):
        return "not known: the file tells neither work nor kernels"
    rate = one.total_s / other.total_s
    if abs(rate - 1) <= LIKE:
        return "the same within 2 %"
    if elsewhere:
        return f"another device: the same work at {format_ratio(rate)} × the rate"
    return f"{'lower' if rate < 1 else 'higher'} efficiency: the same work at {format_ratio(rate)} × the rate"
