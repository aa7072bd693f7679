"""Ranks of this machine, started and watched by torch's elastic launcher, as torchrun does it."""

import os
import signal
import sys
import uuid
from collections.abc import Sequence

from llamalab.errors import InputError, UnavailableError
from llamalab.parallel.rank_watch import LOST

_LOOK_S = 0.1  # between two checks of the ranks


def launch(argv: Sequence[str], *, ranks: int) -> int:
    """Run `python -m llamalab ARGV` on several ranks and wait for all; gives the exit code of the rank that ended it.

    Raises UnavailableError where a rank was killed or the launcher could not start; KeyboardInterrupt, or SystemExit
    for another signal, when no rank is left.
    """
    if ranks < 1:
        raise InputError(f"ranks must be at least 1; got {ranks}")
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # By default each rank would use all processors.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(_processors()) // ranks)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=_LOOK_S,
        logs_specs=DefaultLogsSpecs(),
    )
    _quiet_launcher()
    try:
        elastic_launch(config, sys.executable)("-m", "llamalab", *argv)
    except ChildFailedError as failed:
        return _ended({rank: failure.exitcode for rank, failure in failed.failures.items()})
    except SignalException as stopped:
        if stopped.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + stopped.sigval) from None
    return 0


def _ended(codes: dict[int, int]) -> int:
    """The exit code of the rank that failed first; the launcher ends the others with SIGTERM."""
    killed = {rank: -code for rank, code in codes.items() if code < 0 and -code != signal.SIGTERM}
    for rank, number in killed.items():
        raise UnavailableError(
            f"every rank must run to the end; rank {rank} was killed by {signal.Signals(number).name}; "
            "where nobody killed it, memory ran out: take a smaller model, context or batch, or more ranks"
        )
    own = [code for code in codes.values() if code > 0 and code != LOST]
    if own:
        return own[0]
    raise UnavailableError("every rank must run to the end; one was lost and left no word; run it again")


def _processors() -> Sequence[int]:
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return range(os.cpu_count() or 1)


def _quiet_launcher() -> None:
    """Silences the launcher's log of a failed rank, which an error message here reports."""
    import logging

    logging.disable(logging.CRITICAL)  # this process does nothing else
