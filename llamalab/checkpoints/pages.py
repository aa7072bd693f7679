"""Loading without a file and its copy both in memory: pages that were read are given back at once.

A mapped tensor that was cast, permuted or moved leaves its pages behind in this process. They are dropped
with madvise(MADV_DONTNEED), after which the file would be read again; what the operating system caches is
its own affair. Linux only: elsewhere the pages stay until the file is closed.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable

import torch
from torch import Tensor


def settled(
    mapped: Tensor,
    *,
    dtype: torch.dtype | None,
    device: torch.device | None,
    arrange: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A mapped tensor where and how it is wanted: itself where that is possible, else a copy.

    `mapped` must lie in a private mapping of a file that nobody has written to: its pages are dropped
    once they are copied.
    """
    dense = readable(mapped)
    made = dense if arrange is None else arrange(dense)
    made = made.to(device=device, dtype=dtype)
    if made.device != mapped.device or made.untyped_storage().data_ptr() != mapped.untyped_storage().data_ptr():
        drop_pages(mapped)
    return made


def readable(mapped: Tensor) -> Tensor:
    """A tensor in the order of its rows and where a processor may read its values: itself, or a copy."""
    dense = mapped.contiguous()
    return dense.clone() if dense.data_ptr() % dense.element_size() else dense


def drop_pages(mapped: Tensor) -> None:
    """Give back the whole pages that a mapped, unwritten tensor covers, if its values lie side by side."""
    if sys.platform != "linux" or not mapped.is_contiguous():
        return
    # Inwards: the first and the last page may hold a neighbour that is in use.
    start = -(-mapped.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (mapped.data_ptr() + mapped.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
