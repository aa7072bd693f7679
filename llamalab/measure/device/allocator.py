"""Whether freed memory stays with the process: on CUDA it does; on a CPU it is up to the C library.

glibc gives large blocks back to the system as they are freed and gets them anew, filled with zeros
page by page, at the next call: naive attention, which allocates its score matrices, then takes up
to twice as long, or not, depending on what the process did before. A measurement that shall
repeat keeps freed memory, as CUDA's caching allocator does.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory(touch_bytes: int = 0) -> bool:
    """Have this process keep the memory that it frees, from now on; False where the C library cannot.

    `touch_bytes` are fetched at once, so that no later call of that size has to.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    kept = bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, _NEVER))
    if kept and touch_bytes:
        block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(touch_bytes)))
        if block:
            ctypes.memset(block, 0, touch_bytes)
        libc.free(block)
    return kept
