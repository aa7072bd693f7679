"""Capture of work as a CUDA graph, with the process state restored after a failure.

Where recording fails, torch ends the capture with an error of its own, which hides the first one, and leaves the
current stream, the allocator's private pool and the random generator as they were inside the capture: every later
operation would then fail or allocate from the dead graph's memory. Here the three are put back, and the first error is
raised.
"""

import contextlib
from collections.abc import Callable
from functools import cache

import torch


@cache
def capture_refusal(place: torch.device) -> str | None:
    """Why a device records no graphs, as its driver says it; None where it does.

    It is found out once, by recording one addition. Raises OutOfMemoryError where memory is full.
    """
    x = torch.zeros(1, device=place)
    try:
        captured(lambda: x.add_(1), place)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return None


def captured(work: Callable[[], object], place: torch.device, *, warm_ups: int = 1) -> torch.cuda.CUDAGraph:
    """The work as a graph to replay; it runs `warm_ups` times before, to compile and choose kernels.

    Raises what `work` raised, or RuntimeError where it did what cannot be recorded: waiting for the device, copying
    from or to the host. The process is then as it was before.
    """
    with torch.cuda.device(place):
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        graph, generator = torch.cuda.CUDAGraph(), torch.cuda.default_generators[place.index or 0]
        random_state = generator.clone_state()
        first: BaseException | None = None
        recording = False
        try:
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(warm_ups):
                    work()
            current.wait_stream(side)
            recording = True
            with torch.cuda.graph(graph, stream=side):  # torch's own stream may be another device's
                try:
                    work()
                except BaseException as error:
                    first = error
                    raise
        except BaseException as error:
            torch.cuda.set_stream(current)
            if recording:
                _abandon(graph, place)
                generator.graphsafe_set_state(random_state)
            if first is None or first is error:
                raise
            raise first from None
        finally:
            torch.cuda.set_stream(current)
    return graph


def _abandon(graph: torch.cuda.CUDAGraph, place: torch.device) -> None:
    """Stop the allocator from serving the pool of a graph whose capture failed, and free its memory."""
    with contextlib.suppress(RuntimeError):  # the capture may have ended properly, or not begun
        torch._C._cuda_endAllocateToPool(place.index or 0, graph.pool())
    with contextlib.suppress(RuntimeError):
        graph.reset()
