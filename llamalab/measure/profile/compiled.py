"""Memory that a library's compiled kernels keep: each shape of a run is executed once, then the process is measured.

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
    """Bytes of a process: resident ones, and private ones that a memory limit counts, touched or not."""

    resident: int
    private: int


def held_here() -> Occupied:
    """Bytes held by this process after the allocator has returned free memory. Linux only."""
    ctypes.CDLL(None).malloc_trim(0)
    return Occupied(status_bytes("VmRSS") or 0, status_bytes("VmData") or 0)


def compile_shapes(shapes: Iterable[Shape]) -> None:
    """Run each shape once as the model would, so that the growth of `held_here` is the memory of compiled kernels.

    The process must return freed memory (glibc: MALLOC_MMAP_THRESHOLD_); otherwise freed operands count too.
    """
    with torch.inference_mode():
        for shape in shapes:
            call = attention_call(shape) if isinstance(shape, AttentionShape) else product_call(shape)
            call()
            del call
