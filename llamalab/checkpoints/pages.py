"""Memory of a load without file and copy together: pages of mapped files are dropped once they are read.

A mapped tensor that was cast, permuted or moved leaves its pages resident in this process. They are dropped with
madvise(MADV_DONTNEED), after which the file would be read again; the page cache of the operating system is not
affected. Linux only: elsewhere pages stay until the file is closed.
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
    """A mapped tensor in a given dtype and on a given device: itself where that needs no copy, else a copy.

    `mapped` must be part of a private mapping of a file, unwritten: its pages are dropped after the copy.
    """
    dense = readable(mapped)
    made = dense if arrange is None else arrange(dense)
    made = made.to(device=device, dtype=dtype)
    if made.device != mapped.device or made.untyped_storage().data_ptr() != mapped.untyped_storage().data_ptr():
        drop_pages(mapped)
    return made


def readable(mapped: Tensor) -> Tensor:
    """A tensor that is contiguous and aligned: itself, or a copy."""
    dense = mapped.contiguous()
    return dense.clone() if dense.data_ptr() % dense.element_size() else dense


def drop_pages(mapped: Tensor) -> None:
    """Drop the whole pages of a mapped, unwritten tensor, if it is contiguous."""
    if sys.platform != "linux" or not mapped.is_contiguous():
        return
    # Rounded inwards: the first and last page may be shared with another tensor.
    start = -(-mapped.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (mapped.data_ptr() + mapped.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
