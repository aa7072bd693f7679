"""The cost of a fresh tensor on the host: page faults of memory that the C library just gave back.

By default glibc returns large blocks to the system when they are freed and asks for them again at the next
operation; each page is then cleared and mapped anew. The activations of a 512-token pass through three blocks of
7B took 52,000 page faults, 6 % of its time. Told to keep what it has, it takes none after the first few.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_BLOCK_BYTES = 1 << 30
_LARGEST_REST_BYTES = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Have this process keep memory that is freed, for the next tensors; False where the C library has no such switch.

    Blocks below 1 GiB are concerned; weights and caches are made once and do not matter. It holds for the process and
    cannot be undone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES)) and bool(
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_REST_BYTES)
    )


def give_freed_memory_back() -> bool:
    """Return what is kept and not in use to the system, once; False where the C library cannot.

    Between two stages of a run: the second needs other sizes, and what the first kept would add to its peak.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
