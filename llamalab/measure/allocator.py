"""Does freed memory stay with the process? On CUDA it does; on a CPU it is up to the C library.

glibc gives large blocks back to the system as they are freed and gets them anew, filled with zeros
page by page, at the next call: naive attention, which allocates its score matrices, then takes up
to twice as long, or not, depending on what the process did before. A measurement that shall
repeat keeps freed memory, as CUDA's caching allocator does.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees, from now on; False where the C library cannot."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
