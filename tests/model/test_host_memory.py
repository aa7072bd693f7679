"""Memory that is freed stays with the process: in one of its own, as it cannot be undone."""

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from llamalab.model import host_memory

MIB = 1 << 20
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switch is glibc's")
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
TOUCHED = """
import resource, sys, torch
from llamalab.model.host_memory import keep_freed_memory
torch.ones(8)
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
assert keep_freed_memory(touch_bytes=192 << 20)
before = faults(); torch.ones(16 << 20); print(faults() - before)
"""
RELEASED = """
import torch
from pathlib import Path
from llamalab.model.host_memory import keep_freed_memory
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
assert keep_freed_memory()
before = resident(); torch.empty(1100 << 20, dtype=torch.uint8); print(resident() - before)
weights = torch.empty(1100 << 20, dtype=torch.uint8); weights[:: 1 << 20] = 1; del weights
print(resident() - before)
"""


def run(script: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


@GLIBC
def test_large_blocks_are_not_given_back() -> None:
    kept, faults = run(SCRIPT)
    assert kept == "True"
    assert int(faults) < 100  # 98,304 pages are written: without the switch each is asked for again


@GLIBC
def test_touched_memory_is_there_before_the_first_call() -> None:
    (faults,) = run(TOUCHED)
    assert int(faults) < 64 * MIB // 4096 // 100


@GLIBC
def test_weights_larger_than_a_threshold_are_given_back() -> None:
    never_written, written = map(int, run(RELEASED))
    assert max(never_written, written) < 64 * MIB


class OldLibrary(SimpleNamespace):
    """A glibc before 2.35, which refuses thresholds above 32 MiB."""

    def mallopt(self, what: int, value: int) -> int:
        self.asked.append(what)
        return int(what != host_memory._M_MMAP_THRESHOLD or value <= 32 * MIB)


def test_an_old_library_keeps_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    library = OldLibrary(asked=[])
    monkeypatch.setattr(host_memory, "_glibc", lambda: library)
    assert host_memory.keep_freed_memory() is True
    assert library.asked == [host_memory._M_MMAP_THRESHOLD, host_memory._M_MMAP_MAX, host_memory._M_TRIM_THRESHOLD]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert host_memory.keep_freed_memory(touch_bytes=1) is False
    assert host_memory.give_freed_memory_back() is False
