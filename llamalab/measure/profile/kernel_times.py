"""The kernels of every operation and their share of its time, read from one profiled pass with ranges.

On an accelerator a kernel belongs to the range in which it was launched. On a CPU the kernels are PyTorch's own
operations, by self time; the rest of a range is Python and dispatch.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from llamalab.measure.timing.profiler_ranges import Span, starred

NAMED = 0.10  # kernels below this share of their operation's device time are not named


class Busy(NamedTuple):
    """An operation in the profiled pass, summed over the blocks: its ranges, and the kernels in them."""

    calls: int
    range_s: float
    device_s: float
    kernels: list[str]
    behind: bool = False  # whether kernels ran asynchronously on an accelerator

    def device_s_in(self, time_s: float) -> float | None:
        """Kernel seconds of one call that takes `time_s` without a profiler.

        A profiler lengthens ranges of the host: there the share of kernels in a range is applied to `time_s`. On an
        accelerator kernels keep their length, whatever the host's range contains.

        >>> Busy(2, 60e-6, 10e-6, [], behind=True).device_s_in(10e-6), Busy(2, 60e-6, 30e-6, []).device_s_in(10e-6)
        (5e-06, 5e-06)
        """
        if self.behind:
            return min(time_s, self.device_s / self.calls)
        return min(time_s, time_s * self.device_s / self.range_s) if self.range_s else None


def ranges_in(events: Iterable[Any], names: Iterable[str]) -> list[Span]:
    """The host's ranges of these names, in order, without the copies on an accelerator's track."""
    known = set(names)
    found = [
        Span(event.name(), event.start_ns(), event.start_ns() + event.duration_ns())
        for event in events
        if event.name() in known and not _on_device(event)
    ]
    return sorted(found, key=lambda span: span.start_ns)


def busy_times(events: Sequence[Any], spans: Sequence[Span], *, launch_calls: tuple[str, ...]) -> dict[str, Busy]:
    """By row of the cost table: calls, seconds of the ranges, seconds and names of the kernels.

    `launch_calls` are the device's (llamalab.measure.device.base.Device); without any, kernels are the host's calls.
    """
    self_ns: dict[str, Counter[str]] = {}
    launched = _launches(events, launch_calls) if launch_calls else _self_times(events, spans)
    for at_ns, name, duration_ns in launched:
        op = _span_at(at_ns, spans)
        if op is not None:
            self_ns.setdefault(starred(op), Counter())[name] += duration_ns
    found: dict[str, Busy] = {}
    for row in dict.fromkeys(starred(span.name) for span in spans):
        own = [span for span in spans if starred(span.name) == row]
        kernels = self_ns.get(row, Counter())
        device_ns = sum(kernels.values())
        names = [name for name, spent in kernels.most_common() if spent >= NAMED * device_ns]
        range_ns = sum(span.end_ns - span.start_ns for span in own)
        found[row] = Busy(len(own), range_ns / 1e9, device_ns / 1e9, names, behind=bool(launch_calls))
    return found


def _launches(events: Iterable[Any], launch_calls: tuple[str, ...]) -> list[tuple[int, str, int]]:
    """(launch time, kernel, ns on the device); runtime call and kernel share a correlation number.

    Ranges are repeated on the device's track, under own numbers that may equal those of a launch.
    """
    events = list(events)
    ranges = {event.name() for event in events if not _on_device(event) and event.is_user_annotation()}
    calls = {
        event.correlation_id(): event.start_ns()
        for event in events
        if not _on_device(event) and event.name().startswith(launch_calls)
    }
    return [
        (calls[event.correlation_id()], event.name(), event.duration_ns())
        for event in events
        if _on_device(event) and event.name() not in ranges and event.correlation_id() in calls
    ]


def _self_times(events: Iterable[Any], spans: Sequence[Span]) -> list[tuple[int, str, int]]:
    """(start time, operation, self time in ns), of the pass's thread."""
    names = {span.name for span in spans}
    calls = [event for event in events if event.duration_ns() > 0 and event.name() not in names]
    threads = Counter(event.start_thread_id() for event in events if event.name() in names)
    own = [event for event in calls if event.start_thread_id() in threads and event.name() != "[memory]"]
    own.sort(key=lambda event: (event.start_ns(), -event.duration_ns()))
    found: list[list[Any]] = []
    open_: list[tuple[int, int]] = []  # (end, index) of the enclosing calls
    for event in own:
        while open_ and open_[-1][0] <= event.start_ns():
            open_.pop()
        if open_:
            found[open_[-1][1]][2] -= event.duration_ns()
        open_.append((event.start_ns() + event.duration_ns(), len(found)))
        found.append([event.start_ns(), event.name(), event.duration_ns()])
    return [(at_ns, name, max(0, spent)) for at_ns, name, spent in found]


def _span_at(at_ns: int, spans: Sequence[Span]) -> str | None:
    index = bisect_right(spans, at_ns, key=lambda span: span.start_ns) - 1
    return spans[index].name if index >= 0 and at_ns < spans[index].end_ns else None


def _on_device(event: Any) -> bool:
    return str(event.device_type()).rpartition(".")[2] not in ("CPU",)
