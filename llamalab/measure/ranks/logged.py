"""Passes that all ranks of a team run at once with a log of every collective, and times derived from the logs.

A collective begins on a rank when its input is ready, and early ranks wait for the last. On a common clock, time until
the last rank begins is waiting, and time after it is sending.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor

from llamalab.measure.device.machine import device_of
from llamalab.measure.ranks.clocks import clock_lead_s
from llamalab.model import StaticKVCache
from llamalab.model.own_share import Sent


class LoggedPass(NamedTuple):
    """A pass of one rank: its beginning, its end, and its collectives."""

    began_s: float
    ended_s: float
    sent: list[Sent]

    def earlier(self, seconds: float) -> "LoggedPass":
        """The same pass on a clock that is so many seconds behind.

        >>> LoggedPass(5.0, 9.0, [Sent("all_reduce", 8, 6.0, 7.0)]).earlier(4.0).sent[0].began_s
        2.0
        """
        sent = [one._replace(began_s=one.began_s - seconds, ended_s=one.ended_s - seconds) for one in self.sent]
        return LoggedPass(self.began_s - seconds, self.ended_s - seconds, sent)


class SentTime(NamedTuple):
    """A collective of a pass on one rank: its own work since the one before, waiting for others, and sending."""

    kind: str
    buffer_bytes: int
    compute_s: float
    waiting_s: float
    communication_s: float


class LoggedRun(NamedTuple):
    """The same pass of one rank, split at its collectives; `last_s` is its own work after the last of them."""

    collectives: tuple[SentTime, ...]
    last_s: float

    @property
    def compute_s(self) -> float:
        """Seconds of its own work."""
        return sum(one.compute_s for one in self.collectives) + self.last_s

    @property
    def waiting_s(self) -> float:
        """Seconds of waiting for other ranks."""
        return sum(one.waiting_s for one in self.collectives)

    @property
    def communication_s(self) -> float:
        """Seconds of collectives while all ranks took part."""
        return sum(one.communication_s for one in self.collectives)


def logged_pass(model: Any, tokens_BT: Tensor, cache: StaticKVCache, past_tokens: int) -> LoggedPass:
    """One pass of this rank's share; all ranks begin together."""
    if cache.length < past_tokens:
        cache.advance(past_tokens - cache.length)
    cache.rewind(past_tokens, lossy=True)
    dist.barrier(group=model.link.group)
    model.link.log = []
    try:
        began_s = time.perf_counter()
        model(tokens_BT, cache=cache, logits="last")
        device_of(tokens_BT.device).synchronise()
        return LoggedPass(began_s, time.perf_counter(), model.link.log)
    finally:
        model.link.log = None


def gathered(group: Any, own: list[LoggedPass]) -> list[list[LoggedPass]]:
    """The passes of every rank of a group, gathered on all of them, on the clock of its first rank."""
    lead_s = clock_lead_s(group)
    everybody: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everybody, [one.earlier(lead_s) for one in own], group=group)
    return everybody


def split_runs(everybody: list[list[LoggedPass]]) -> Iterator[list[LoggedRun]]:
    """The split passes of each rank; `everybody` has the passes of each rank on a common clock.

    >>> early, late = Sent("all_reduce", 8, 1.0, 4.0), Sent("all_reduce", 8, 3.0, 4.0)
    >>> next(split_runs([[LoggedPass(0.0, 5.0, [early])], [LoggedPass(0.0, 5.0, [late])]]))[0].collectives[0][2:]
    (1.0, 2.0, 1.0)
    """
    for own in everybody:
        yield [_split(one, [other[number].sent for other in everybody]) for number, one in enumerate(own)]


def _split(one: LoggedPass, sent_by_all: list[list[Sent]]) -> LoggedRun:
    found, free_s = [], one.began_s
    for sent, same in zip(one.sent, zip(*sent_by_all, strict=True), strict=True):
        waiting_s = max(other.began_s for other in same) - sent.began_s
        inside_s = sent.ended_s - sent.began_s
        found.append(SentTime(sent.kind, sent.buffer_bytes, sent.began_s - free_s, waiting_s, inside_s - waiting_s))
        free_s = sent.ended_s
    return LoggedRun(tuple(found), one.ended_s - free_s)
