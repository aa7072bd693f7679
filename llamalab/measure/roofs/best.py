"""The best rate of several probes, checked by doubling the work of the fastest."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, TypeVar

from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.doubling_check import Checked, check_doubling
from llamalab.measure.timing.timer import Call, Plan, time_one
from llamalab.records.roof import Roof

T = TypeVar("T")
SURVEY, FINAL = Plan(0.05, 2, 8), Plan(0.3, 3, 40)
_SURVEY_SHARE = 0.5  # share of a roof's time


class Probe(NamedTuple):
    """A call of single or doubled work, whose rate is a candidate for a roof."""

    shape: str
    amount: float
    once: Call
    twice: Call


Candidate = Callable[[], Probe]  # made when needed, so that only one is in memory


def best_roof(kind: str, machine: Machine, candidates: Iterable[Candidate]) -> Roof:
    """Run all probes briefly, check the fastest by doubling, and keep the best rate of all."""
    surveyed: list[tuple[float, str]] = []
    best: Candidate | None = None
    survey = machine._replace(deadline=machine.deadline and machine.deadline.part(_SURVEY_SHARE))
    for candidate in candidates:
        rate, shape = _survey(candidate(), survey)
        if not surveyed or rate > max(surveyed)[0]:
            best = candidate
        surveyed.append((rate, shape))
        if survey.late:
            break  # on a slow machine only the first shapes are probed
    assert best is not None
    probe = best()
    checked = check_doubling(probe.once, probe.twice, machine.clock, FINAL, machine.deadline)
    rate, shape = max(*surveyed, (probe.amount / checked.unit_s, probe.shape))
    return roof_of(kind, machine.dtype, checked, per_second=rate, shape=shape)


def _survey(probe: Probe, machine: Machine) -> tuple[float, str]:
    return probe.amount / min(time_one(probe.once, machine.clock, machine.within(SURVEY))), probe.shape


def absent_roof(kind: str, dtype: str, reason: str) -> Roof:
    """A roof that was not measured, on which no prediction rests."""
    return Roof(kind=kind, dtype=dtype, per_second=None, trusted=False, reason=reason)


def deferred(function: Callable[..., T], *arguments: object, **options: object) -> Callable[[], T]:
    """The call with its arguments bound now, so that a probe made in a loop keeps them."""
    return partial(function, *arguments, **options)


def repeated(work: Call, times: int) -> Call:
    """The work, repeated."""

    def run() -> None:
        for _ in range(times):
            work()

    return run


def roof_of(
    kind: str,
    dtype: str,
    checked: Checked,
    *,
    shape: str,
    per_second: float | None = None,
    seconds: float | None = None,
) -> Roof:
    """A roof with its samples and the result of its check."""
    return Roof(
        kind=kind,
        dtype=dtype,
        per_second=per_second,
        seconds=seconds,
        shape=shape,
        samples_s=checked.once_s,
        doubling_ratio=checked.ratio,
        trusted=checked.trusted,
        reason=checked.reason,
    )
