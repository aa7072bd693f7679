"""The measurements of several ranks for a report: passes on all of them, and the constants that predict these."""

import torch

from llamalab.analytic.kept_weights import model_weight_bytes
from llamalab.measure.ranks.constants import ranks_constants
from llamalab.measure.ranks.passes import SharedWork, time_ranks
from llamalab.measure.timing.deadline import ProgressCallback
from llamalab.parallel.team import Team
from llamalab.records.ranks import RanksPass, RanksRun


def measure_ranks(
    team: Team,
    work: SharedWork,
    *,
    layers_total: int,
    budget_s: float,
    progress: ProgressCallback = lambda label, done: None,
) -> RanksRun:
    """Passes of a model, which may be the first blocks of one of `layers_total`, on all ranks of a team.

    Within about `budget_s` seconds, beside the calibration. Called by the rank that leads.
    """
    progress("links and constants of the ranks", 0.0)
    weight_bytes = model_weight_bytes(work.arch, work.dtype, work.kept)
    constants = ranks_constants(team, work.dtype, weight_bytes, work.kept)
    progress(f"passes on {team.place.ranks} ranks", 0.6)
    timed: list[RanksPass] = team.everywhere(time_ranks, work, budget_s)
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
