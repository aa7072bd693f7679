"""Splits of a model over devices ranked by throughput, with the reason against each one that is not the best."""

from collections.abc import Iterator

from llamalab.analytic.forecast import Basis
from llamalab.analytic.roofline import predict_op, rates_of_op
from llamalab.analytic.split_forecast import split_memory, split_times
from llamalab.analytic.splits import Split, check_split
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.formatting import format_bytes, format_seconds
from llamalab.startup.hints import NamedTuple

_SLIGHTLY, _MANY_TIMES = 1.1, 10  # range of ratios in whole percents; below with a decimal, above as a factor
_SHOWN_SHARE = 0.001  # share of the time below which a reason is not stated


class Goals(NamedTuple):
    """Limits on time to first token and between tokens, None for none."""

    ttft_s: float | None = None
    tpot_s: float | None = None


class Planned(NamedTuple):
    """A split with its memory, times and rates; times are None where it cannot run, `why` is the reason against it."""

    split: Split
    needed_bytes: int | None
    ttft_s: float | None
    tpot_s: float | None
    tokens_per_s: float | None
    communication_share: float | None
    bubble_share: float | None
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether it can be run within the goals."""
        return not self.why


def splits_of(devices: int) -> Iterator[Split]:
    """Every split that uses so many devices.

    >>> len(list(splits_of(2))), len(list(splits_of(8)))
    (4, 20)
    """
    ways = [ways for ways in range(1, devices + 1) if devices % ways == 0]
    for tensor in ways:
        for pipeline in ways:
            for context in ways:
                if devices % (tensor * pipeline * context) == 0:
                    yield Split(tensor, pipeline, context, devices // (tensor * pipeline * context))


def plan(
    arch: LlamaArch, work: Workload, devices: int, *, room_bytes: int, basis: Basis, goals: Goals
) -> list[Planned]:
    """All splits: first those within the goals, by tokens per second, each other one with the reason against it."""
    found = [_planned(arch, work, split, room_bytes, basis, goals) for split in splits_of(devices)]
    found.sort(key=lambda one: (not one.holds, one.tokens_per_s is None, -(one.tokens_per_s or 0.0)))
    best = found[0]
    return [best, *(one if one.why else one._replace(why=_slower(one, best)) for one in found[1:])]


def _planned(arch: LlamaArch, work: Workload, split: Split, room_bytes: int, basis: Basis, goals: Goals) -> Planned:
    try:
        check_split(arch, split, work)
    except InputError as error:
        return Planned(
            split=split,
            needed_bytes=None,
            ttft_s=None,
            tpot_s=None,
            tokens_per_s=None,
            communication_share=None,
            bubble_share=None,
            why=str(error),
        )
    needed = split_memory(arch, work, split).total_bytes
    if needed > room_bytes:
        short = f"needs {format_bytes(needed)} a device, {format_bytes(needed - room_bytes)} too much"
        return Planned(
            split=split,
            needed_bytes=needed,
            ttft_s=None,
            tpot_s=None,
            tokens_per_s=None,
            communication_share=None,
            bubble_share=None,
            why=short,
        )
    timed = _timed(arch, work, split, needed, basis)
    return timed._replace(why=_missed(timed, goals))


def _missed(one: Planned, goals: Goals) -> str:
    """The goals that a split misses, and by how much; empty where it holds them."""
    return "; ".join(
        f"{what} {format_seconds(value)}, {_above(value / goal)} {format_seconds(goal)}"
        for what, value, goal in (("TTFT", one.ttft_s, goals.ttft_s), ("TPOT", one.tpot_s, goals.tpot_s))
        if value is not None and goal is not None and value > goal
    )


def _above(ratio: float) -> str:
    """The excess of a time over a goal.

    >>> _above(1.004), _above(1.4), _above(6976.9)
    ('0.4% above', '40% above', '6,977 times')
    """
    if ratio >= _MANY_TIMES:
        return f"{ratio:,.0f} times"
    return f"{ratio - 1:.1%} above" if ratio < _SLIGHTLY else f"{ratio - 1:.0%} above"


def _timed(arch: LlamaArch, work: Workload, split: Split, needed: int, basis: Basis) -> Planned:
    found = split_times(arch, work, split, lambda op: predict_op(op, rates_of_op(op, basis.rates)).time_s, basis.host)
    times = found.times
    return Planned(
        split=split,
        needed_bytes=needed,
        ttft_s=times.prefill_s,
        tpot_s=times.decode_s_per_token,
        tokens_per_s=times.tokens_per_s,
        communication_share=found.communication_share,
        bubble_share=found.bubble_share,
    )


def _slower(one: Planned, best: Planned) -> str:
    assert one.tokens_per_s is not None
    assert best.tokens_per_s is not None
    lost = f"{1 - one.tokens_per_s / best.tokens_per_s:.1%} fewer tokens/s"
    if (one.bubble_share or 0.0) > max((one.communication_share or 0.0), 0.05):
        return f"{lost}: stages are idle for {one.bubble_share:.1%} of the time"
    if (one.communication_share or 0.0) - (best.communication_share or 0.0) >= _SHOWN_SHARE:
        return f"{lost}: sending takes {one.communication_share:.1%} of the time, there {best.communication_share:.1%}"
    if one.split.context > best.split.context:
        return f"{lost}: context ranks all read the weights for the same sequences"
    return f"{lost}: each device reads more weights for fewer sequences"
