"""Clocks of ranks on several machines: each counts from when its own began, so that its times say nothing to others.

A rank asks the first one for its time and takes the answer to be of the middle between question and answer; of many
questions the one with the shortest way counts (Cristian 1989, Probabilistic clock synchronization).
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

_QUESTIONS = 30


class ClockReply(NamedTuple):
    """The first rank's time, and this rank's own when it asked and when it had the answer."""

    asked_s: float
    theirs_s: float
    answered_s: float


def lead_of(answers: Iterable[ClockReply]) -> float:
    """Seconds that this rank's clock is ahead of the first rank's; 0 where both may be one clock.

    They may be where the time of the answer lies between question and answer of the shortest way.

    >>> lead_of([ClockReply(10.0, 3.0, 11.0), ClockReply(11.0, 4.25, 11.5)])
    7.0
    >>> lead_of([ClockReply(10.0, 10.1, 10.4)])
    0.0
    """
    best = min(answers, key=lambda one: one.answered_s - one.asked_s)
    if best.asked_s <= best.theirs_s <= best.answered_s:
        return 0.0
    return (best.asked_s + best.answered_s) / 2 - best.theirs_s


def clock_lead_s(group: Any, *, now: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that this rank's clock is ahead of that of a group's first rank; every rank of it calls."""
    if dist.get_rank(group) == 0:
        for rank in range(1, dist.get_world_size(group)):
            for _ in range(_QUESTIONS):
                _received(rank, group)
                _send(now(), rank, group)
        return 0.0
    answers = []
    for _ in range(_QUESTIONS):
        asked_s = now()
        _send(asked_s, 0, group)
        answers.append(ClockReply(asked_s, _received(0, group), now()))
    return lead_of(answers)


def _send(value: float, rank: int, group: Any) -> None:
    dist.send(torch.tensor([value], dtype=torch.float64), group=group, group_dst=rank)


def _received(rank: int, group: Any) -> float:
    value = torch.empty(1, dtype=torch.float64)
    dist.recv(value, group=group, group_src=rank)
    return float(value)
