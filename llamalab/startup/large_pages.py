"""Large pages for weights: torch's own switch, which it reads at its first tensor.

A product of one row with gigabytes of weights touches a new page of 4 KiB every 2,048 weights of 2 bytes, and TLB
misses stall the processor. With pages of 2 MiB there are almost none.
"""

import os

SWITCH = "THP_MEM_ALLOC_ENABLE"  # c10/core/impl/alloc_cpu.cpp; without effect where the system has no such pages


def ask_for_large_pages() -> None:
    """Have torch request large pages in this process and its children; a user's setting takes precedence.

    It must be called before torch makes its first tensor.
    """
    os.environ.setdefault(SWITCH, "1")
