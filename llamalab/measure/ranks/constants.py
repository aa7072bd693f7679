"""Constants of ranks that work side by side: all calibrate in step, and the links are added.

Ranks of one CPU share its memory bandwidth and processors, so that each reaches less than a process alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from llamalab.analytic.calibration_files import default_path, parsed_constants, read_calibration
from llamalab.analytic.rank_costs import RankCosts
from llamalab.measure.calibration.constants_here import short_plan
from llamalab.measure.calibration.fit import Fit
from llamalab.measure.calibration.peers import AgreedDeadline, InStep
from llamalab.measure.calibration.result import Calibration
from llamalab.measure.calibration.run import BUDGET_S, calibrate
from llamalab.measure.device.machine import calibration_name, device_name
from llamalab.measure.ranks.link import LinkRuns, LinkTime, OwnWork, fit_link, resuming_s, time_links, waiting_share
from llamalab.measure.timing.deadline import ProgressCallback, part_of
from llamalab.parallel.team import Team
from llamalab.units import KeptWeights

T = TypeVar("T")
_LONGER = 1.5  # times the budget of one process: ranks build at once, and rounds wait for the slowest


@dataclass(frozen=True)
class RanksCalibration:
    """The constants of one of `ranks` ranks and of its links, and the times these were fitted on."""

    ranks: int
    made: Calibration
    links: tuple[LinkTime, ...]
    works: tuple[OwnWork, ...] = ()

    @property
    def link_fits(self) -> dict[str, Fit]:
        """Constants of collectives by class."""
        return fit_link(list(self.links), self.ranks)

    @property
    def waiting_share(self) -> float:
        """Seconds of waiting for other ranks per second of a rank's own work."""
        return waiting_share(list(self.links))

    @property
    def resuming_s(self) -> float:
        """Own seconds of a rank outside its rows, per collective."""
        return resuming_s(self.works, self.made.rates, self.made.weight_dtype)

    @property
    def data(self) -> dict[str, Any]:
        """The calibration in the form of llamalab.analytic.calibration_files, with ranks, their costs and links."""
        data: dict[str, Any] = json.loads(self.made.json)
        fits = self.link_fits
        data["classes"] |= {name: fit.rates._asdict() for name, fit in fits.items()}
        data["fitted"] |= {name: json.loads(json.dumps(fit.origin)) for name, fit in fits.items()}
        links = [one._asdict() for one in self.links]
        costs = RankCosts(self.waiting_share, self.resuming_s)._asdict()
        return data | {"ranks": self.ranks, **costs, "links": links}


def ranks_path(place: torch.device, ranks: int, dtype: str, weight_dtype: str | None = None) -> Path:
    """Where the constants of one of so many ranks of this machine are kept."""
    return default_path(f"{calibration_name(place)}-{ranks}-ranks", dtype, weight_dtype)


def kept_ranks_constants(
    place: torch.device, ranks: int, dtype: str, weight_dtype: str | None = None
) -> dict[str, Any] | None:
    """Constants that llamalab calibrate --ranks stored for this machine, None without any. Raises FormatError."""
    path = ranks_path(place, ranks, dtype, weight_dtype)
    if not path.exists():
        return None
    data = read_calibration(path)
    parsed_constants(data, str(path), dtype)
    return data if data.get("title") == device_name(place) else None


def calibrate_ranks(
    team: Team,
    *,
    dtype: str,
    weight_bytes: int | None = None,
    kept: KeptWeights | None = None,
    progress: ProgressCallback = lambda label, done: None,
) -> RanksCalibration:
    """Calibrate all ranks of a team at once; called by the leader.

    The length suits the bytes of weights on all of them (default: that of llamalab calibrate); matrices of the blocks
    are in the storage `kept`. Collectives are in `dtype` whatever the storage of weights.
    """
    progress("links between ranks", 0.0)
    links: LinkRuns = team.everywhere(time_links, dtype, kept and kept.storage)
    shown = {"progress": part_of(progress, 0.1, 1.0, "ranks in step, ")}
    made: Calibration = team.everywhere(_calibrated, dtype, weight_bytes, kept, own=shown)
    return RanksCalibration(team.place.ranks, made, tuple(links.collectives), tuple(links.passes))


class _Ranks(InStep):
    """The peers of a team; the leader decides."""

    def __init__(self, team: Team) -> None:
        self._team, self.sharing = team, team.place.ranks if team.device.type == "cpu" else 1

    def agree(self, value: T) -> T:
        return self._team.from_leader(value)

    def meet(self) -> None:
        dist.barrier()


def _calibrated(
    team: Team,
    dtype: str,
    weight_bytes: int | None,
    kept: KeptWeights | None,
    progress: ProgressCallback = lambda label, done: None,
) -> Calibration:
    peers = _Ranks(team)
    plan = None if weight_bytes is None else short_plan(team.device, weight_bytes)
    return calibrate(
        device=str(team.device),
        dtype=dtype,
        deadline=AgreedDeadline(BUDGET_S if plan is None else _LONGER * plan.budget_s, peers),
        fit=plan and plan.fit,
        check=plan and plan.check,
        copies_bytes=plan and plan.copies_bytes,
        weight_dtype=kept and kept.storage,
        kernel_rows=kept and kept.kernel_rows,
        peers=peers,
        progress=progress,
    )


def ranks_constants(team: Team, dtype: str, weight_bytes: int, kept: KeptWeights | None = None) -> dict[str, Any]:
    """The constants of a team's ranks: stored ones, else of a short calibration of all of them at once.

    Of weights that are `kept` so, where they are quantised.
    """
    found = kept_ranks_constants(team.device, team.place.ranks, dtype, kept and kept.storage)
    if found is None:
        found = calibrate_ranks(team, dtype=dtype, weight_bytes=weight_bytes, kept=kept).data
    return found
