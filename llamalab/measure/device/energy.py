"""The energy of a token, and who holds memory: from counters of the system, or None with the reason.

A GPU counts its energy through NVML, a CPU through RAPL where the system lets a user read it. Both
counters move only every 10 to 100 ms, so nothing is said of a window below 2 s: the work is repeated
until it fills one. What the device draws when idle is part of it.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from llamalab.measure.device.environment import watch
from llamalab.measure.device.machine import ROOT
from llamalab.records.phase_profile import Energy, Usage

LEAST_S = 2.0
_MOST_S = 10.0  # of one pass: beyond it a window would take minutes
_RAPL = "sys/class/powercap/intel-rapl:0/energy_uj"
Counter = Callable[[], tuple[float | None, str | None]]


def energy_per_token(work: Callable[[], object], tokens: int, device: torch.device, *, pass_s: float) -> Energy:
    """Repeat `work`, which yields `tokens` and takes about `pass_s`, for 2 s and more."""
    read, source = _counter(device)
    _, reason = read()
    if reason is not None:
        return Energy(joules_per_token=None, reason=reason)
    if pass_s > _MOST_S:
        return Energy(joules_per_token=None, reason=f"one pass takes {pass_s:.0f} s; energy is measured up to 10 s")

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return measure_energy(work, tokens, read, source, settle=settle)


def measure_energy(
    work: Callable[[], object], tokens: int, read: Counter, source: str, *,
    settle: Callable[[], object] = lambda: None, now: Callable[[], float] = time.perf_counter,
) -> Energy:  # fmt: skip
    """Joules of a window over its tokens; `read` is a counter in joules, `settle` waits for the device."""
    settle()
    before, reason = read()
    began, passes = now(), 0
    while before is not None and now() - began < LEAST_S:
        work()
        settle()
        passes += 1
    window_s = now() - began
    after, reason_after = read()
    if before is None or after is None:
        return Energy(joules_per_token=None, source=source, reason=reason or reason_after)
    spent, done = after - before, passes * tokens
    if spent <= 0:
        reason = "the counter did not rise" if spent == 0 else "the counter began anew within the window"
        return Energy(joules_per_token=None, window_s=window_s, tokens=done, source=source, reason=reason)
    return Energy(joules_per_token=spent / done, window_s=window_s, tokens=done, source=source)


def usage(device: torch.device, *, root: Path = ROOT) -> Usage:
    """Memory of this process on the host and, on CUDA, of every process on the device."""
    sizes, missing = {}, {}
    for field, key in (("VmRSS", "resident_bytes"), ("VmHWM", "peak_resident_bytes")):
        sizes[key] = _status_bytes(root / "proc/self/status", field)
        if sizes[key] is None:
            missing[key] = f"the system does not tell {field}"
    held: dict[str, int | None] | None = None
    watched, reason = watch(device)
    if watched is not None:
        by_id, reason = watched.process_bytes()
        held = None if by_id is None else {str(pid): size for pid, size in by_id.items()}
    if held is None:
        missing["device_bytes_by_process"] = reason or "NVML: not available"
    return Usage(**sizes, device_bytes_by_process=held, missing=missing)


def rapl_counter(*, root: Path = ROOT) -> Counter:
    """The energy counter of the first CPU package, in joules."""

    def read() -> tuple[float | None, str | None]:
        try:
            return int((root / _RAPL).read_text()) / 1e6, None
        except FileNotFoundError:
            return None, "this system has no energy counter of the CPU (RAPL)"
        except (OSError, ValueError):
            return None, "the CPU's energy counter (RAPL) is not readable without privileges"

    return read


def _counter(device: torch.device) -> tuple[Counter, str]:
    if device.type != "cuda":
        return rapl_counter(), "RAPL"
    watched, reason = watch(device)
    if watched is None:
        return lambda: (None, reason), "NVML"
    return watched.energy_j, "NVML"


def _status_bytes(status: Path, field: str) -> int | None:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
