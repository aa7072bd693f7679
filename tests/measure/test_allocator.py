import platform
import subprocess
import sys

import pytest

CODE = """
from llamalab.measure.allocator import keep_freed_memory
from pathlib import Path
import torch
assert keep_freed_memory(touch_bytes=3 << 26)
def faults():
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[7])
before = faults()
for _ in range(4):
    torch.ones(1 << 24)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_used_again_is_not_fetched_page_by_page() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 4 * (1 << 26) // 4096 // 100  # 64 MiB four times, in pages of 4 KiB


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from llamalab.measure import allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert allocator.keep_freed_memory() is False
