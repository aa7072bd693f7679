"""What PyTorch really did: one profiled call, for the passes that need evidence and no time."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.profiler import profile


def profiled(work: Callable[[], object], *, memory: bool = False) -> list[Any]:
    """The raw events of one call: each has name(), start_ns(), and nbytes() for [memory].

    The call ends before the events are read, its device work included.
    """
    with profiling(memory=memory) as run:
        work()
    return list(run.kineto_results.events())


@contextmanager
def profiling(*, memory: bool = False) -> Iterator[Any]:
    """The profiler over a block, with CUDA's work where there is any, which has ended when the block has."""
    # Kineto writes its stages to the terminal, through the progress bar, unless told not to.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # Not torch.profiler, which is this one and loads the compiler for its set-up: a second or two at first use.
    cuda = "cuda" if torch.cuda.is_available() else None
    with profile(use_device=cuda, use_kineto=True, profile_memory=memory, acc_events=True) as run:
        yield run
        if cuda:
            torch.cuda.synchronize()
    assert run.kineto_results is not None
