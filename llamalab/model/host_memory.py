"""Freed memory of the host: kept by the process for reuse, or returned to the system at once.

By default glibc returns large blocks to the system when they are freed and asks for them again at the next
operation; each page is then cleared and mapped again. The activations of a 512-token pass through three blocks of
7B took 52,000 page faults, 6 % of its time. Memory that is kept causes none after the first few passes.

A threshold of 1 GiB, and not "never map" (M_MMAP_MAX 0): both avoid the same page faults, but of weights of 1.2 GiB
that were let go the second kept 1.0 GiB resident and the first none (docs/decisions.md).
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
_LARGEST_BLOCK_BYTES = 1 << 30
_LARGEST_REST_BYTES = (1 << 31) - 1


def keep_freed_memory(touch_bytes: int = 0) -> bool:
    """Have this process keep memory that is freed, for the next tensors; False where the C library has no such switch.

    Blocks below 1 GiB are concerned; weights and caches are made once and do not matter. `touch_bytes` are fetched at
    once, so that no later call of that size has to. It holds for the process and cannot be undone.
    """
    libc = _glibc()
    if libc is None:
        return False
    # Before 2.35 glibc refuses thresholds above 32 MiB; there blocks of every size are kept.
    mapped = libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES) or libc.mallopt(_M_MMAP_MAX, 0)
    kept = bool(mapped and libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_REST_BYTES))
    if kept and touch_bytes:
        _touch(libc, touch_bytes)
    return kept


def give_freed_memory_back() -> bool:
    """Return unused kept memory to the system, once; False where the C library cannot.

    Between two stages of a run: the second needs other sizes, and memory kept by the first would add to its peak.
    """
    libc = _glibc()
    return libc is not None and bool(libc.malloc_trim(0))


def _touch(libc: ctypes.CDLL, wanted_bytes: int) -> None:
    """Write to so many bytes and free them, in blocks below the threshold, all allocated at once."""
    libc.malloc.restype = ctypes.c_void_p
    blocks = []
    while wanted_bytes > 0:
        size = min(wanted_bytes, _LARGEST_BLOCK_BYTES - 4096)
        block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
        if not block:
            break
        ctypes.memset(block, 0, size)
        blocks.append(block)
        wanted_bytes -= size
    for block in blocks:
        libc.free(block)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
