"""The operations that PyTorch ran, from one profiled call, for passes that need the names and no time."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.autograd.profiler import profile

from llamalab.measure.device.base import Device


def profiled(work: Callable[[], object], *, device: Device | None = None, memory: bool = False) -> list[Any]:
    """The raw events of one call: each has name(), start_ns(), and nbytes() for [memory].

    The call ends before the events are read, the work of `device` included.
    """
    with profiling(device=device, memory=memory) as run:
        work()
    return list(run.kineto_results.events())


@contextmanager
def profiling(*, device: Device | None = None, memory: bool = False) -> Iterator[Any]:
    """The profiler over a block, with the work of `device` (default: the host's alone), which ends with the block."""
    # Kineto prints its stages to the terminal, over the progress bar, unless switched off.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    name = None if device is None else device.profiler_name
    # Not torch.profiler, a wrapper of this one that loads the compiler at its first use: a second or two.
    with profile(use_device=name, use_kineto=True, profile_memory=memory, acc_events=True) as run:
        yield run
        if device is not None:
            device.synchronise()
    assert run.kineto_results is not None
