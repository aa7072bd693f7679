"""Energy per token, and memory of processes: from counters of the system, or None with the reason.

A GPU counts its energy through NVML, a CPU through RAPL where the system lets a user read it. Both counters are updated
only every 10 to 100 ms, so that windows below 2 s give no figure: the work is repeated to fill one. The idle power of
the device is included.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from llamalab.measure.device.base import Counter
from llamalab.measure.device.machine import device_of
from llamalab.measure.device.peak_memory import status_bytes
from llamalab.records.phase_profile import Energy, Usage

LEAST_S = 2.0
_MOST_S = 10.0  # longest pass; a longer one would make the window take minutes
_PROC = Path("/proc/self")


def energy_per_token(work: Callable[[], object], tokens: int, device: torch.device, *, pass_s: float) -> Energy:
    """Repeat `work`, which yields `tokens` and takes about `pass_s`, for 2 s and more."""
    measured = device_of(device)
    read, source = measured.energy_counter()
    _, reason = read()
    if reason is not None:
        return Energy(joules_per_token=None, reason=reason)
    if pass_s > _MOST_S:
        return Energy(joules_per_token=None, reason=f"one pass takes {pass_s:.0f} s; energy is measured up to 10 s")
    return measure_energy(work, tokens, read, source, settle=measured.synchronise)


def measure_energy(
    work: Callable[[], object],
    tokens: int,
    read: Counter,
    source: str,
    *,
    settle: Callable[[], object] = lambda: None,
    now: Callable[[], float] = time.perf_counter,
) -> Energy:
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


def usage(device: torch.device, *, proc: Path = _PROC) -> Usage:
    """Memory of this process on the host and, where the device reports it, of every process on the device."""
    sizes, missing = {}, {}
    for field, key in (("VmRSS", "resident_bytes"), ("VmHWM", "peak_resident_bytes")):
        sizes[key] = status_bytes(field, proc=proc)
        if sizes[key] is None:
            missing[key] = f"the system does not tell {field}"
    by_id, reason = device_of(device).process_bytes()
    held = None if by_id is None else {str(pid): size for pid, size in by_id.items()}
    if held is None:
        missing["device_bytes_by_process"] = reason or "NVML: not available"
    return Usage(
        resident_bytes=sizes["resident_bytes"],
        peak_resident_bytes=sizes["peak_resident_bytes"],
        device_bytes_by_process=held,
        missing=missing,
    )
