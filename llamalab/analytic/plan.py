"""Splits of a model over devices ranked by what they give, with the reason why each other one loses.

Time to first token is that of the whole batch; a step of decode goes through all stages, and with as many microbatches
as stages none is idle. Ring transfers hide behind attention: the longer of the two counts.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from llamalab.analytic.forecast import Basis, Workload, decode_contexts, memory_needed
from llamalab.analytic.op import Op
from llamalab.analytic.roofline import Rates, predict, rates_of_op
from llamalab.analytic.splits import Split, check_split, microbatches, stage_ops
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.units import format_bytes, format_seconds


class Goals(NamedTuple):
    """The longest time to the first token and between tokens, None for any."""

    ttft_s: float | None = None
    tpot_s: float | None = None


class Planned(NamedTuple):
    """A split with what it needs and gives; times are None where it cannot be run, `why` says what is against it."""

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
    """All splits, those that hold the goals first and by tokens per second; each other one says why it loses."""
    found = [_planned(arch, work, split, room_bytes, basis, goals) for split in splits_of(devices)]
    found.sort(key=lambda one: (not one.holds, one.tokens_per_s is None, -(one.tokens_per_s or 0.0)))
    best = found[0]
    return [best, *(one if one.why else one._replace(why=_slower(one, best)) for one in found[1:])]


def needed_bytes(arch: LlamaArch, work: Workload, split: Split) -> int:
    """Bytes on one device: its weights, its part of the KV cache, and the largest activations."""
    own = work._replace(
        tensor_parallel=split.tensor,
        layer_parallel=split.pipeline,
        batch=work.batch // split.replicas,
        chunk=work.prompt // split.context,
    )
    found = memory_needed(arch, own)
    return found.weight_bytes + -(-found.kv_bytes // split.context) + found.activation_bytes


def _planned(arch: LlamaArch, work: Workload, split: Split, room_bytes: int, basis: Basis, goals: Goals) -> Planned:
    try:
        check_split(arch, split, work)
    except InputError as error:
        return Planned(split, None, None, None, None, None, None, str(error))
    needed = needed_bytes(arch, work, split)
    if needed > room_bytes:
        short = f"needs {format_bytes(needed)} a device, {format_bytes(needed - room_bytes)} too much"
        return Planned(split, needed, None, None, None, None, None, short)
    timed = _timed(arch, work, split, needed, basis)
    return timed._replace(why=_missed(timed, goals))


def _missed(one: Planned, goals: Goals) -> str:
    """Which goals a split misses, and by how much; empty where it holds them."""
    return "; ".join(
        f"{what} {format_seconds(value)}, {value / goal - 1:.0%} above {format_seconds(goal)}"
        for what, value, goal in (("TTFT", one.ttft_s, goals.ttft_s), ("TPOT", one.tpot_s, goals.tpot_s))
        if value is not None and goal is not None and value > goal
    )


def _timed(arch: LlamaArch, work: Workload, split: Split, needed: int, basis: Basis) -> Planned:
    parts, stages, host = microbatches(work, split), split.pipeline, basis.host
    sequences = work.batch // split.replicas
    whole_s, sent_s = _pass_s(stage_ops(arch, work, split, work.prompt, work.prompt), basis.rates)
    # A microbatch after another enters: the last has passed (parts + stages - 1) stages' times later.
    ttft_s = whole_s * (parts + stages - 1) / stages + host.request_s + sequences * host.sequence_s
    rounds = max(parts, stages) / stages
    steps = [
        (weight, _pass_s(stage_ops(arch, work, split, 1, context), basis.rates))
        for weight, context in decode_contexts(work)
    ]
    step_s = sum(weight * one[0] for weight, one in steps) * rounds
    step_sent_s = sum(weight * one[1] for weight, one in steps) * rounds
    tpot_s = step_s + host.step_s + sequences * host.sequence_s if steps else None
    later = work.generate - 1
    total_s = ttft_s + later * (tpot_s or 0.0)
    communication_s = sent_s * (parts + stages - 1) / stages + later * step_sent_s
    idle_s = whole_s * (stages - 1) / stages + later * step_s * (1 - parts / max(parts, stages))
    return Planned(
        split,
        needed,
        ttft_s,
        tpot_s,
        work.batch * work.generate / total_s,
        communication_s / total_s,
        idle_s / total_s,
    )


def _pass_s(ops: tuple[Op, ...], rates: Mapping[str, Rates]) -> tuple[float, float]:
    """Seconds of a microbatch through all stages, and those of it in collectives that nothing hides."""
    rows = [(op, op.count * predict(op, rates_of_op(op, rates)).time_s) for op in ops]
    ring_s = sum(seconds for op, seconds in rows if op.name.endswith(".ring"))
    attention_s = sum(seconds for op, seconds in rows if op.kind == "attention")
    hidden_s = min(ring_s, attention_s)
    sent_s = sum(seconds for op, seconds in rows if op.kind == "collective") - hidden_s
    return sum(seconds for _, seconds in rows) - hidden_s, sent_s


def _slower(one: Planned, best: Planned) -> str:
    assert one.tokens_per_s is not None
    assert best.tokens_per_s is not None
    lost = f"{1 - one.tokens_per_s / best.tokens_per_s:.0%} fewer tokens/s"
    if (one.bubble_share or 0.0) > max((one.communication_share or 0.0), 0.05):
        return f"{lost}: stages are idle for {one.bubble_share:.0%} of the time"
    if (one.communication_share or 0.0) > (best.communication_share or 0.0):
        return f"{lost}: sending takes {one.communication_share:.0%} of the time, there {best.communication_share:.0%}"
    return f"{lost}: each device reads more weights for fewer sequences"
