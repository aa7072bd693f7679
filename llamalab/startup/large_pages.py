"""Large pages of memory for weights: torch's own switch, which it reads at its first tensor.

A row multiplied by weights of gigabytes visits a new page of 4 KiB for every 2,048 of them, and a processor that runs
out of translations waits for the next one. In pages of 2 MiB that all but goes away.
"""

import os

SWITCH = "THP_MEM_ALLOC_ENABLE"  # c10/core/impl/alloc_cpu.cpp; it does nothing where the system has no such pages


def ask_for_large_pages() -> None:
    """Have torch ask for large pages in this process and its children; what a user has set stays.

    It must be called before torch makes its first tensor.
    """
    os.environ.setdefault(SWITCH, "1")
