"""CPU affinity of a rank's threads: processors of its own, gloo's event loop at lower priority than its users.

gloo's loop polls while another thread takes up received data (pytorch/gloo, issue 246). If the scheduler runs the loop
in place of that thread, both wait for the end of a time slice, some milliseconds, ten times the time of a message of a
kilobyte. Migration between processors has the same effect: each rank keeps to its share, as ranks of MPI do.
"""

import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/{}"
_LOOP = "gloo"  # gloo names the thread of its event loop gloo_tcp_loop; those of torch begin with pt_gloo
_BEHIND = 10  # added nice value; 19 would starve the loop beside a busy process


def take_processors(store: Any, rank: int, ranks: int) -> tuple[int, ...] | None:
    """Bind this process to its share of the processors common to the ranks of this machine; gives the share.

    None, without effect, where ranks have different processors, there are fewer than ranks, or the system does not
    report them. Every rank calls it.
    """
    own = _allowed()
    key = "processors/{}"
    store.set(key.format(rank), f"{socket.gethostname()} {own}")
    given = [store.get(key.format(one)).decode() for one in range(ranks)]
    host = given[rank].partition(" ")[0]
    together = [one for one, text in enumerate(given) if text.partition(" ")[0] == host]
    if not own or any(given[one] != given[rank] for one in together):
        return None
    share = share_of(sorted(own, key=_place), together.index(rank), len(together))
    if share is None:
        return None
    os.sched_setaffinity(0, share)
    return share


def share_of(processors: Sequence[int], place: int, ranks: int) -> tuple[int, ...] | None:
    """One rank's part of processors in the order of their cores; None where there are fewer than ranks.

    >>> share_of([0, 4, 1, 5], 1, 2), share_of([0], 0, 2)
    ((1, 5), None)
    """
    each = len(processors) // ranks
    return tuple(processors[place * each : (place + 1) * each]) if each else None


def let_loops_yield(threads: Iterable[Path] | None = None) -> int:
    """Lower the priority of gloo's event loops in this process; gives their number, 0 where none is known.

    `threads` are folders as /proc/self/task has them.
    """
    found = 0
    for thread in Path("/proc/self/task").glob("*") if threads is None else threads:
        with suppress(OSError):  # a thread that has ended, or missing permission
            if (thread / "comm").read_text().startswith(_LOOP):
                os.sched_setscheduler(int(thread.name), os.SCHED_BATCH, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _BEHIND)
                found += 1
    return found


def _allowed() -> list[int]:
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return []


def _place(processor: int) -> tuple[int, ...]:
    """By package and core, so that the threads of a core go to one rank."""
    try:
        names = ("physical_package_id", "core_id")
        return (*(int(Path(_TOPOLOGY.format(processor, name)).read_text()) for name in names), processor)
    except (OSError, ValueError):
        return (0, 0, processor)
