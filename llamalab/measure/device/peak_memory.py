"""The memory that a call takes at its peak, above what was held before it.

CPU: the running sum of the allocator's events in the profiler, exact and repeatable to the byte
(resident-set methods see page faults, tracemalloc does not see torch at all). Beside it what the
operating system saw: VmHWM, set back through /proc/self/clear_refs. CUDA: the allocator's own
peak. What a system does not tell is None with a reason: torch.cuda.max_memory_allocated()
would answer 0 on a CPU.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from llamalab.measure.device.profiler import profiled
from llamalab.records.record import Memory

_PROC = Path("/proc/self")


def measure_peak(work: Callable[[], object], device: torch.device, *, resident_bytes: int | None = None) -> Memory:
    """The peak of one call above what was held before it. The call runs twice on a CPU.

    Run the call once before, or the peak holds what libraries keep from their first use.
    """
    if device.type == "cuda":
        return _cuda_peak(work, device, resident_bytes)
    events = [event for event in profiled(work, memory=True) if event.name() == "[memory]"]
    process_peak = process_peak_bytes(work)
    if not events:
        reason = "the profiler of this torch reported no allocation"
        return Memory(
            peak_bytes=None,
            method="profiler",
            resident_bytes=resident_bytes,
            process_peak_bytes=process_peak,
            reason=reason,
        )
    events.sort(key=lambda event: event.start_ns())
    return Memory(
        peak_bytes=running_peak(event.nbytes() for event in events),
        method="profiler: running sum of allocations",
        resident_bytes=resident_bytes,
        process_peak_bytes=process_peak,
    )


def running_peak(changes_bytes: Iterable[int]) -> int:
    """The highest running sum of allocations (+) and releases (-), never below 0.

    >>> running_peak([400, 800, -400, 300, -1100])
    1200
    """
    held = peak = 0
    for change in changes_bytes:
        held += change
        peak = max(peak, held)
    return peak


def process_peak_bytes(work: Callable[[], object], *, proc: Path = _PROC) -> int | None:
    """Growth of the process's resident peak during one call; None where Linux does not tell."""
    try:
        (proc / "clear_refs").write_text("5")  # 5 sets VmHWM back to the present VmRSS
        before = _status_bytes(proc, "VmRSS")
    except OSError:
        return None
    work()
    peak = _status_bytes(proc, "VmHWM")
    return None if before is None or peak is None else max(0, peak - before)


def _status_bytes(proc: Path, field: str) -> int | None:
    for line in (proc / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def _cuda_peak(work: Callable[[], object], device: torch.device, resident_bytes: int | None) -> Memory:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    held, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    work()
    torch.cuda.synchronize(device)
    return Memory(
        peak_bytes=torch.cuda.max_memory_allocated(device) - held,
        method="cuda: max_memory_allocated",
        resident_bytes=held if resident_bytes is None else resident_bytes,
        process_peak_bytes=torch.cuda.max_memory_reserved(device) - reserved,
    )
