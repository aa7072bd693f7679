"""What did PyTorch really do? One profiled call, for the passes that need evidence and no time."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def profiled(work: Callable[[], object], *, memory: bool = False) -> list[Any]:
    """The raw events of one call: each has name(), start_ns(), and nbytes() for [memory].

    The call ends before the events are read, its device work included.
    """
    with profiling(memory=memory) as run:
        work()
    return list(run.profiler.kineto_results.events())


@contextmanager
def profiling(*, memory: bool = False) -> Iterator[Any]:
    """The profiler over a block, with CUDA's work where there is any, which has ended when the block has."""
    # Kineto writes its stages to the terminal, through the progress bar, unless told not to.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, profile_memory=memory, acc_events=True) as run:
        yield run
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    assert run.profiler is not None
    assert run.profiler.kineto_results is not None
