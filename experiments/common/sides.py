"""Contestants in processes of their own: started, given a turn to run, ended."""

import gc
import time
from collections.abc import Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.common.contestants import Entry, Turn
from llamalab.arch import LlamaArch


class Side(NamedTuple):
    """A contestant's process, the pipe to it, and the names of what it can run."""

    process: BaseProcess
    pipe: Connection
    names: list[str]


def work(entry: Entry, arch: LlamaArch, dtype: str, folder: Path, pipe: Connection) -> None:
    """A process: makes its turns, then runs the turns that it is given and answers with seconds a token."""
    try:
        with torch.inference_mode():
            turns = entry.turns(arch, dtype, folder)
            pipe.send(list(turns))
            gc.disable()
            while (name := pipe.recv()) is not None:
                pipe.send(token_s(turns[name]))
    except KeyboardInterrupt:
        return


def token_s(turn: Turn) -> float:
    """Seconds a token of one turn, by the host's clock or by that of who runs it."""
    turn.before()
    began = time.perf_counter()
    own_s = turn.work()
    spent_s = time.perf_counter() - began if own_s is None else own_s
    return spent_s / turn.tokens


def started(entry: Entry, arch: LlamaArch, dtype: str, folder: Path) -> Side:
    """The contestant's process, once its turns are made."""
    context = get_context("spawn")
    ours, other = context.Pipe()
    process = context.Process(target=work, args=(entry, arch, dtype, folder, other), daemon=True)
    process.start()
    other.close()  # so that the end of the process is an end of file here
    return Side(process, ours, ours.recv())


def ask(side: Side, name: str) -> float:
    """Seconds a token of one turn."""
    side.pipe.send(name)
    return float(side.pipe.recv())


def end(sides: Iterable[Side]) -> None:
    """Let all of them go."""
    for process, pipe, _ in sides:
        if process.is_alive():
            pipe.send(None)
        process.join(10)
