"""Passes of a model on several ranks, made by all at once: how long each computed, sent, and waited for the others.

A collective begins on a rank when it has what it sends, and all that begin early wait for the last. Ranks of one
machine share a clock, so that waiting can be told from sending: until the last rank began it is waiting.
"""

import time
from collections import Counter
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.measure.device.machine import device_of
from llamalab.measure.target.target import tokens_of
from llamalab.model import StaticKVCache
from llamalab.model.own_share import Sent
from llamalab.parallel.counted import CountedCollectives, expected_collectives
from llamalab.parallel.models import ready_share
from llamalab.parallel.team import Team
from llamalab.records.ranks import RanksPass, RankTime

_WARM, _LEAST, _MOST = 2, 5, 25


def time_ranks(
    team: Team, arch: LlamaArch, dtype: str, batch: int, prompt_tokens: int, budget_s: float
) -> list[RanksPass]:
    """A prefill and the decode step after it on all ranks of a team, within about `budget_s` seconds."""
    model = ready_share(team, arch, dtype=dtype)
    cache = StaticKVCache(model.rank_arch, batch=batch, max_tokens=prompt_tokens + 1, dtype=dtype, device=team.device)
    with torch.inference_mode():
        return [
            _pass(team, model, cache, phase, new_tokens, past_tokens, budget_s / 2)
            for phase, new_tokens, past_tokens in (("prefill", prompt_tokens, 0), ("decode", 1, prompt_tokens))
        ]


def _pass(
    team: Team, model: Any, cache: StaticKVCache, phase: str, new_tokens: int, past_tokens: int, budget_s: float
) -> RanksPass:
    tokens_BT = tokens_of(model.arch, cache.batch, new_tokens, team.device)

    def run() -> tuple[float, float, list[Sent]]:
        cache.rewind(past_tokens, lossy=True)
        dist.barrier(group=model.link.group)
        model.link.log = []
        began_s = time.perf_counter()
        model(tokens_BT, cache=cache, logits="last")
        device_of(team.device).synchronise()
        return began_s, time.perf_counter(), model.link.log

    with CountedCollectives() as counted:
        cache.rewind(past_tokens, lossy=True)
        model(tokens_BT, cache=cache, logits="last")
    for _ in range(_WARM):
        began_s, ended_s, _ = run()
    # The first rank's count is everybody's: a rank that stopped earlier would leave the others waiting.
    rounds = torch.tensor([max(_LEAST, min(_MOST, int(budget_s / (ended_s - began_s))))], device=team.device)
    dist.broadcast(rounds, 0, group=model.link.group)
    own = [run() for _ in range(int(rounds.item()))]
    model.link.log = None
    everybody: list[Any] = [None] * team.place.ranks
    dist.all_gather_object(everybody, own)
    shape = PassShape(
        new_tokens=new_tokens,
        context_tokens=past_tokens + new_tokens,
        batch=cache.batch,
        dtype=cache.dtype,
        tensor_parallel=team.place.ranks,
    )
    return RanksPass(
        phase=phase,
        ranks=team.place.ranks,
        layers_measured=model.arch.n_layers,
        new_tokens=new_tokens,
        context_tokens=shape.context,
        batch=cache.batch,
        attention=model.backend.algorithm,
        passes_s=_slowest_s(everybody),
        by_rank=split_by_rank(everybody),
        collectives=_named(counted.calls),
        collectives_expected=_named(expected_collectives(forward_ops(model.arch, shape))),
    )


def _slowest_s(everybody: list[list[tuple[float, float, list[Sent]]]]) -> list[float]:
    """Of each pass the time from when all had begun until the last was done."""
    return [max(one[1] for one in runs) - max(one[0] for one in runs) for runs in zip(*everybody, strict=True)]


def split_by_rank(everybody: list[list[tuple[float, float, list[Sent]]]]) -> list[RankTime]:
    """Medians over passes of what each rank did; `everybody` has the passes of each rank on a clock that all share.

    >>> early, late = Sent("all_reduce", 8, 1.0, 4.0), Sent("all_reduce", 8, 3.0, 4.0)
    >>> split_by_rank([[(0.0, 5.0, [early])], [(0.0, 5.0, [late])]])[0]
    RankTime(rank=0, compute_s=2.0, communication_s=1.0, waiting_s=2.0)
    """
    found = []
    for rank, own in enumerate(everybody):
        split = []
        for number, (began_s, ended_s, sent) in enumerate(own):
            starts = ([one.began_s for one in other[number][2]] for other in everybody)
            last_s = [max(moments) for moments in zip(*starts, strict=True)]
            waiting_s = sum(max(0.0, last - one.began_s) for one, last in zip(sent, last_s, strict=True))
            inside_s = sum(one.ended_s - one.began_s for one in sent)
            split.append((ended_s - began_s - inside_s, inside_s - waiting_s, waiting_s))
        compute_s, communication_s, waiting_s = (median(column) for column in zip(*split, strict=True))
        found.append(RankTime(rank=rank, compute_s=compute_s, communication_s=communication_s, waiting_s=waiting_s))
    return found


def _named(calls: Counter[Any]) -> dict[str, int]:
    return {f"{one.kind} of {one.buffer_bytes} B": count for one, count in sorted(calls.items())}
