import platform
import subprocess
import sys

import pytest

from llamalab.measure.device import allocator

PAGES = (1 << 26) // 4096  # of 64 MiB, the size that is allocated
CODE = """
import sys
from pathlib import Path
import torch
from llamalab.measure.device.allocator import keep_freed_memory
def faults():
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[7])
if sys.argv[1] == "keep":
    assert keep_freed_memory(touch_bytes=3 << 26)
for _ in range(12):
    before = faults()
    torch.ones(1 << 24)
    print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_used_again_is_not_fetched_page_by_page() -> None:
    fewest = {}
    for mode in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True)
        fewest[mode] = min(map(int, run.stdout.split()))
    # The heap may move now and then; left alone, every block of this size is fetched anew.
    assert fewest["keep"] < PAGES // 100
    assert fewest["leave"] > 0


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert allocator.keep_freed_memory() is False
