"""A trace of PyTorch's profiler (Chrome's trace event format): time by kernel on a device, by operator on a CPU.

Of a GPU the time is that of its kernels. On a CPU operators nest: each is given the time that none inside it takes.
Times are microseconds. Where steps were marked (ProfilerStep#N), the time is of one step.
"""

from collections.abc import Iterable
from typing import Any

from llamalab.records.run import OpTime, Run, RunPhase

TOOL = "a torch profiler trace"
_US = 1e-6
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


def recognises(data: Any) -> bool:
    """Whether it is a list of trace events."""
    return isinstance(data, dict) and isinstance(data.get("traceEvents"), list)


def read(data: Any, name: str) -> list[Run]:
    """One run of one phase."""
    events = [event for event in data["traceEvents"] if event.get("ph") == "X" and "dur" in event]
    steps = max(1, len({event["name"] for event in events if str(event["name"]).startswith("ProfilerStep#")}))
    kernels = [event for event in events if event.get("cat") in _ON_DEVICE]
    own_us = _by_name(kernels) if kernels else _own_times(event for event in events if event.get("cat") == "cpu_op")
    ops = tuple(OpTime(op, us * _US / steps, kernel=op) for op, us in own_us.items() if us > 0)
    devices = data.get("deviceProperties") or [{}]
    total_s = sum(op.total_s for op in ops)
    phase = RunPhase("step" if steps > 1 else "trace", "other", total_s, (), ops=ops)
    return [Run(name, TOOL, (phase,) if ops else (), {"steps": steps}, device=devices[0].get("name"))]


def _by_name(events: Iterable[dict[str, Any]]) -> dict[str, float]:
    times: dict[str, float] = {}
    for event in events:
        times[str(event["name"])] = times.get(str(event["name"]), 0.0) + float(event["dur"])
    return times


def _own_times(events: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Microseconds of each operator less those of the operators inside it, thread by thread."""
    times: dict[str, float] = {}
    threads: dict[Any, list[dict[str, Any]]] = {}
    for event in events:
        threads.setdefault((event.get("pid"), event.get("tid")), []).append(event)
    for own in threads.values():
        open_until: list[tuple[float, str]] = []
        for event in sorted(own, key=lambda event: (float(event["ts"]), -float(event["dur"]))):
            begin, length, name = float(event["ts"]), float(event["dur"]), str(event["name"])
            while open_until and open_until[-1][0] <= begin:
                open_until.pop()
            if open_until:
                times[open_until[-1][1]] -= length
            times[name] = times.get(name, 0.0) + length
            open_until.append((begin + length, name))
    return times
