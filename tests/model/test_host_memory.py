"""Memory that is freed stays with the process: in one of its own, as it cannot be undone."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from llamalab.model.host_memory import keep_freed_memory
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def passes():
    for _ in range(3): [torch.ones(16 << 20) for _ in range(2)]
print(keep_freed_memory())
for _ in range(6): passes()  # it grows until every tensor finds a place
before = faults(); passes(); print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the switch is glibc's")
def test_large_blocks_are_not_given_back() -> None:
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout.split()
    if out[0] == "False":
        pytest.skip("this C library has no mallopt")
    assert int(out[1]) < 100  # 98,304 pages are written: without the switch each is asked for again
