"""What a report measures of several ranks: passes on all of them, beside the constants that predict these."""

import torch

from llamalab.arch import LlamaArch
from llamalab.measure.ranks.constants import ranks_constants
from llamalab.measure.ranks.passes import time_ranks
from llamalab.measure.timing.deadline import ProgressCallback
from llamalab.parallel.team import Team
from llamalab.records.ranks import RanksPass, RanksRun


def measure_ranks(
    team: Team,
    arch: LlamaArch,
    *,
    dtype: str,
    batch: int,
    prompt_tokens: int,
    layers_total: int,
    weight_bytes: int,
    budget_s: float,
    progress: ProgressCallback = lambda label, done: None,
) -> RanksRun:
    """Passes of `arch`, which may be the first blocks of a model of `layers_total`, on all ranks of a team.

    Called by the rank that leads.

    Args:
        team: the ranks.
        arch: what they run.
        dtype: of weights, activations and cache.
        batch: sequences.
        prompt_tokens: tokens of a prefill; a decode step follows them.
        layers_total: blocks of the whole model.
        weight_bytes: bytes of the weights that run.
        budget_s: seconds for the passes.
        progress: called with a label and the share done.
    """
    progress("links and constants of the ranks", 0.0)
    constants = ranks_constants(team, dtype, weight_bytes)
    progress(f"passes on {team.place.ranks} ranks", 0.6)
    timed: list[RanksPass] = team.everywhere(time_ranks, arch, dtype, batch, prompt_tokens, budget_s)
    backend = "gloo" if team.device.type == "cpu" else "nccl"
    return RanksRun(
        ranks=team.place.ranks,
        backend=backend,
        threads_per_rank=torch.get_num_threads(),
        layers_total=layers_total,
        passes=[one for one in timed if one.ranks == team.place.ranks],
        constants=constants,
        fewer=[one for one in timed if one.ranks < team.place.ranks],
    )
