"""The links between ranks: times of collectives over their size, and the constants that explain them.

    time = t0 + bytes that one rank sends / (e bandwidth)

Small and large collectives are fitted apart, as the op table tells them apart (analytic.parallel.is_one_shot).
"""

from statistics import median
from typing import NamedTuple

import torch
import torch.distributed as dist

from llamalab.analytic.op import Op
from llamalab.analytic.parallel import all_gather_bytes, all_reduce_bytes, collective_mode
from llamalab.measure.calibration.fit import Fit, Kernel
from llamalab.measure.calibration.run import fit_classes
from llamalab.measure.timing.clock import Clock
from llamalab.model.own_share import Link
from llamalab.parallel.team import Team

SIZES_BYTES = tuple(2**power for power in range(10, 25))  # from a decode step of a small model to a long prompt's
_BUDGET_BYTES = 2**27  # sent a size: fewer repetitions of what is large
_LEAST, _MOST = 7, 40
_WARM = 3


class LinkTime(NamedTuple):
    """A collective over a buffer of so many bytes: what one rank sends, and the median of the slowest rank's times."""

    kind: str
    buffer_bytes: int
    link_bytes: int
    time_s: float

    def op(self, ranks: int) -> Op:
        """The row of the cost table that it is."""
        return Op(
            self.kind,
            "collective",
            1,
            read_bytes=self.buffer_bytes,
            written_bytes=self.buffer_bytes,
            link_bytes=self.link_bytes,
            mode=collective_mode(self.kind, self.buffer_bytes, ranks),
            roof="copy",
        )


def time_links(team: Team, sizes: tuple[int, ...] = SIZES_BYTES) -> list[LinkTime]:
    """Every collective at every size, made by all ranks of a team at the same time."""
    from llamalab.measure.device.machine import clock_for

    link, clock, found = Link(team.mesh.get_group()), clock_for(team.device, marks=_MOST + 1), []
    for kind in ("all_reduce", "all_gather"):
        for size in sizes:
            found.append(
                LinkTime(kind, size, _link_bytes(kind, size, link.ranks), _time_s(link, clock, team, kind, size))
            )
    return found


def fit_link(times: list[LinkTime], ranks: int) -> dict[str, Fit]:
    """Constants of the classes of collectives, as a calibration keeps them."""
    return fit_classes(Kernel(one.op(ranks), one.time_s) for one in times)


def _link_bytes(kind: str, buffer_bytes: int, ranks: int) -> int:
    return (all_reduce_bytes if kind == "all_reduce" else all_gather_bytes)(buffer_bytes, ranks)


def _time_s(link: Link, clock: Clock, team: Team, kind: str, buffer_bytes: int) -> float:
    """The median over repetitions of the time of the rank that took longest."""
    own_bytes = buffer_bytes if kind == "all_reduce" else buffer_bytes // link.ranks
    out = torch.zeros(max(1, own_bytes // 4), device=team.device)
    collective = getattr(link, kind)
    for _ in range(_WARM):
        collective(None, (), out)
    dist.barrier(group=link.group)
    clock.mark()
    for _ in range(max(_LEAST, min(_MOST, _BUDGET_BYTES // buffer_bytes))):
        collective(None, (), out)
        clock.mark()
    seconds = torch.tensor(clock.read(), dtype=torch.float64, device=team.device)
    dist.all_reduce(seconds, op=dist.ReduceOp.MAX, group=link.group)
    return float(median(seconds.tolist()))
