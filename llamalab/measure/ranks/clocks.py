"""Offsets between the clocks of ranks, which may start at different moments on several machines.

A rank asks the first one for its time and assumes the reply to be from the middle of the round trip; of many requests
the one with the shortest round trip is used (Cristian 1989, Probabilistic clock synchronization).
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

_QUESTIONS = 30


class ClockReply(NamedTuple):
    """The first rank's time, and this rank's own at request and reply."""

    asked_s: float
    theirs_s: float
    answered_s: float


def lead_of(answers: Iterable[ClockReply]) -> float:
    """Seconds by which this rank's clock is ahead of the first rank's; 0 where both may be one clock.

    That is so where the time of the reply lies within the shortest round trip.

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
    """Seconds by which this rank's clock is ahead of the group's first rank; called by every rank of it."""
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
