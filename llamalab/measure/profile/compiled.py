"""What a library's compiled kernels keep on this machine: each shape of a run once, and what the process then holds.

oneDNN compiles a kernel for each shape of a product in a half type and keeps it. Its size depends on the shape and the
instruction set: 0.6 to 1.3 MiB resident and 1.0 to 2.0 MiB private with AMX, so one figure for all is off by MiB.
"""

import ctypes
from collections.abc import Iterable
from typing import NamedTuple

import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.analytic.kernel_shapes import Shape
from llamalab.measure.device.peak_memory import status_bytes
from llamalab.measure.profile.scratch import attention_call, product_call


class Occupied(NamedTuple):
    """Bytes of a process: those in memory, and those private ones that a limit counts, touched or not."""

    resident: int
    private: int


def held_here() -> Occupied:
    """What this process holds now, with what its allocator has free given back. Linux alone tells it."""
    ctypes.CDLL(None).malloc_trim(0)
    return Occupied(status_bytes("VmRSS") or 0, status_bytes("VmData") or 0)


def compile_shapes(shapes: Iterable[Shape]) -> None:
    """Run each shape once, as the model would, so that what `held_here` grows by is what compiled kernels keep.

    The process must give back what it frees (glibc: MALLOC_MMAP_THRESHOLD_), or operands that are gone count.
    """
    with torch.inference_mode():
        for shape in shapes:
            call = attention_call(shape) if isinstance(shape, AttentionShape) else product_call(shape)
            call()
            del call
