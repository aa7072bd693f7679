"""Passes of a model on several ranks, run by all at once: seconds of computing, sending and waiting."""

from collections import Counter
from contextlib import suppress
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.parallel import shard
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.measure.ranks.logged import LoggedPass, LoggedRun, gathered, logged_pass, split_runs
from llamalab.measure.roofs.shape_products import products_like
from llamalab.measure.target.filled_cache import fill_to
from llamalab.measure.target.target import tokens_of
from llamalab.model import StaticKVCache
from llamalab.parallel.counted import CountedCollectives, expected_collectives
from llamalab.parallel.groups import check_groups
from llamalab.parallel.models import ready_share
from llamalab.parallel.team import Team
from llamalab.records.ranks import RanksPass, RankTime
from llamalab.units import KeptWeights

_WARM, _LEAST, _MOST = 2, 5, 25


class SharedWork(NamedTuple):
    """The work that ranks share: a prompt of each of `batch` sequences, and a token that attends to `context_tokens`.

    `kv_dtype` is the storage of the cache, `attention` a backend's name: `dtype` and the fastest where None. `kept` is
    how quantised matrices are to be kept, None where they are in `dtype`.
    """

    arch: LlamaArch
    dtype: str
    batch: int
    prompt_tokens: int
    context_tokens: int
    kv_dtype: str | None = None
    attention: str | None = None
    kept: KeptWeights | None = None


def time_ranks(team: Team, work: SharedWork, budget_s: float) -> list[RanksPass]:
    """Time a prefill and a decode step on all ranks of a team and on subsets, within about `budget_s` seconds.

    Subsets are the first 2, 4 and so on, while the others wait; each rank gives the passes that it took part in.
    """
    found, sizes = [], [*fewer_ranks(work, team.place.ranks), team.place.ranks]
    for ranks in sizes:
        mesh = team.mesh if ranks == team.place.ranks else DeviceMesh(team.device.type, list(range(ranks)))
        if team.place.rank < ranks:
            found += _passes(team, mesh, work, budget_s / len(sizes))
        dist.barrier(group=team.mesh.get_group())
    return found


def fewer_ranks(work: SharedWork, ranks: int) -> list[int]:
    """Powers of two below a number of ranks that divide the work.

    >>> from llamalab.presets import PRESETS
    >>> work = SharedWork(PRESETS["7b"].arch, "bf16", 1, 512, 513)
    >>> fewer_ranks(work, 8), fewer_ranks(work, 2)
    ([2, 4], [])
    """
    found, fewer = [], 2
    while fewer < ranks:
        with suppress(InputError):
            shard(work.arch, fewer)
            check_groups(work.arch, fewer, work.kept and work.kept.storage)
            found.append(fewer)
        fewer *= 2
    return found


def _passes(team: Team, mesh: Any, work: SharedWork, budget_s: float) -> list[RanksPass]:
    model = ready_share(
        team,
        work.arch,
        dtype=work.dtype,
        mesh=mesh,
        attention=work.attention,
        weight_dtype=work.kept and work.kept.storage,
        kernel_rows=work.kept and work.kept.kernel_rows,
        products=products_like(team.device, work.dtype, work.arch, mesh.size()),
    )
    past_tokens = work.context_tokens - 1
    cache = StaticKVCache(
        model.rank_arch,
        batch=work.batch,
        max_tokens=max(work.prompt_tokens, work.context_tokens),
        dtype=work.kv_dtype or work.dtype,
        device=team.device,
    )
    with torch.inference_mode():
        prefill = _pass(team, model, cache, work, "prefill", work.prompt_tokens, 0, budget_s / 2)
        fill_to(cache, past_tokens)
        return [prefill, _pass(team, model, cache, work, "decode", 1, past_tokens, budget_s / 2)]


def _pass(
    team: Team,
    model: Any,
    cache: StaticKVCache,
    work: SharedWork,
    phase: str,
    new_tokens: int,
    past_tokens: int,
    budget_s: float,
) -> RanksPass:
    tokens_BT = tokens_of(model.arch, work.batch, new_tokens, team.device)
    for _ in range(_WARM):
        last = logged_pass(model, tokens_BT, cache, past_tokens)
    with CountedCollectives() as counted:  # after a pass that fills the cache for the counted one
        cache.rewind(past_tokens, lossy=True)
        model(tokens_BT, cache=cache, logits="last")
    # All use the first rank's count: a rank that stopped earlier would leave the others waiting.
    most = int(budget_s / (last.ended_s - last.began_s))
    rounds = torch.tensor([max(_LEAST, min(_MOST, most))], device=team.device)
    dist.broadcast(rounds, 0, group=model.link.group)
    everybody = gathered(
        model.link.group, [logged_pass(model, tokens_BT, cache, past_tokens) for _ in range(int(rounds.item()))]
    )
    shape = PassShape(
        new_tokens=new_tokens,
        context_tokens=past_tokens + new_tokens,
        batch=work.batch,
        dtype=work.dtype,
        kv_dtype=work.kv_dtype,
        tensor_parallel=model.link.ranks,
    )
    return RanksPass(
        phase=phase,
        ranks=model.link.ranks,
        layers_measured=model.arch.n_layers,
        new_tokens=new_tokens,
        context_tokens=shape.context,
        batch=work.batch,
        kv_dtype=work.kv_dtype,
        attention=model.backend.algorithm,
        passes_s=_slowest_s(everybody),
        by_rank=[rank_time(rank, runs) for rank, runs in enumerate(split_runs(everybody))],
        collectives=_named(counted.calls),
        collectives_expected=_named(expected_collectives(forward_ops(model.arch, shape))),
    )


def _slowest_s(everybody: list[list[LoggedPass]]) -> list[float]:
    """Of each pass the time from the last beginning to the last end."""
    return [
        max(one.ended_s for one in runs) - max(one.began_s for one in runs) for runs in zip(*everybody, strict=True)
    ]


def rank_time(rank: int, runs: list[LoggedRun]) -> RankTime:
    """Medians over the passes of one rank."""
    return RankTime(
        rank=rank,
        compute_s=median(one.compute_s for one in runs),
        communication_s=median(one.communication_s for one in runs),
        waiting_s=median(one.waiting_s for one in runs),
    )


def _named(calls: Counter[Any]) -> dict[str, int]:
    return {f"{one.kind} of {one.buffer_bytes} B": count for one, count in sorted(calls.items())}
