"""Measurements that do not spoil each other: each runs in a process of its own, which may fail or hang by itself.

Processes are forked from one that has imported torch and done nothing with it: none pays for the import, and
none inherits the state of a device, an allocator or another measurement.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

_END_S = 5.0  # for a process that was asked to end


class Outcome(NamedTuple):
    """What a function returned, or in words why it did not, with its last lines of traceback."""

    value: Any
    error: str | None = None
    trace: str = ""


def run_isolated(work: Callable[[], object], limit_s: float) -> Outcome:
    """Call `work`, which must be picklable, elsewhere. It is stopped after `limit_s`, or when an exception comes here.

    What it prints goes to stderr, so that stdout has only what is meant to be read at the end.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, theirs))  # no daemon: it may have processes of its own
    process.start()
    theirs.close()
    try:
        if not wait([ours, process.sentinel], limit_s):
            return Outcome(None, f"stopped after {limit_s:.0f} s")
        if ours.poll():
            outcome: Outcome = ours.recv()
            process.join(_END_S)
            return outcome
    except EOFError:
        process.join(_END_S)
    finally:
        _end(process)
        ours.close()
    return Outcome(None, f"its process ended with code {process.exitcode}")


def _answer(work: Callable[[], object], pipe: Connection) -> None:
    """In the process: the outcome goes through the pipe; nothing that was printed gets into stdout."""
    os.dup2(sys.stderr.fileno(), 1)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            outcome = outcome_of(work)
        except KeyboardInterrupt:
            return  # the parent ended this process
    pipe.send(outcome)


def outcome_of(work: Callable[[], object]) -> Outcome:
    """Call `work` here; raises KeyboardInterrupt alone."""
    try:
        return Outcome(work())
    except ModuleNotFoundError as error:
        return Outcome(None, lacking(error))
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(None, reason, "".join(traceback.format_exception(error, limit=-4)))


def lacking(error: ModuleNotFoundError) -> str:
    """Which package is not there, and what to do about it.

    >>> lacking(ModuleNotFoundError("No module named 'gguf.x'", name="gguf.x"))
    'the package gguf must be there; it is not installed; pip install gguf'
    """
    package = (error.name or str(error)).partition(".")[0]
    return f"the package {package} must be there; it is not installed; pip install {package}"


def _end(process: BaseProcess) -> None:
    if process.is_alive():
        process.terminate()
        process.join(_END_S)
    if process.is_alive():
        process.kill()
        process.join()
