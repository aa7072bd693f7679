"""The peak memory of a call on the host, above the memory held before it.

The running sum of the allocator's events in the profiler is exact and repeatable to the byte; methods that read the
resident set measure page faults, and tracemalloc does not see torch at all. The peak resident set of the operating
system is given beside it: VmHWM, reset through /proc/self/clear_refs.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from llamalab.measure.device.kernel_files import field_of, kibibytes_of
from llamalab.measure.device.profiler import profiled
from llamalab.records.record import MeasuredMemory

_PROC = Path("/proc/self")


def allocated_peak(work: Callable[[], object], *, resident_bytes: int | None = None) -> MeasuredMemory:
    """The peak of one call of `work`, which runs twice; None with the reason where the profiler reports nothing.

    Call it once beforehand; otherwise the peak includes what libraries allocate at first use.
    """
    peak = allocation_peak(work)
    process_peak = process_peak_bytes(work)
    if peak is None:
        return MeasuredMemory(
            peak_bytes=None,
            method="profiler",
            resident_bytes=resident_bytes,
            process_peak_bytes=process_peak,
            reason="the profiler of this torch reported no allocation",
        )
    return MeasuredMemory(
        peak_bytes=peak,
        method="profiler: running sum of allocations",
        resident_bytes=resident_bytes,
        process_peak_bytes=process_peak,
    )


def allocation_peak(work: Callable[[], object]) -> int | None:
    """The highest sum of live bytes of torch's CPU allocator during one call; None where the profiler reports none."""
    events = [event for event in profiled(work, memory=True) if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return running_peak(event.nbytes() for event in events) if events else None


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
    """Growth of the process's resident peak during one call; None where Linux does not report it."""
    try:
        (proc / "clear_refs").write_text("5")  # 5 sets VmHWM back to the present VmRSS
    except OSError:
        return None
    before = status_bytes("VmRSS", proc=proc)
    work()
    peak = status_bytes("VmHWM", proc=proc)
    return None if before is None or peak is None else max(0, peak - before)


def status_bytes(name: str, *, proc: Path = _PROC) -> int | None:
    """A size in the status of this process, such as VmRSS; None where Linux does not report it."""
    return kibibytes_of(field_of(proc / "status", name))
