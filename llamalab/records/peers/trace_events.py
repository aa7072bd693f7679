"""The needed part of a trace's events: times by name, marked steps, and the shapes of attention calls.

Microseconds, as the events have them. Where a device ran kernels, their time counts; else that of operators.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, NamedTuple

_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_MARK = "ProfilerStep#"
_BACKWARD = "autograd::engine::evaluate_function"
_FUSED, _SCORES = "aten::scaled_dot_product_attention", "aten::softmax"
_PRODUCTS = ("aten::linear", "aten::mm", "aten::addmm", "aten::matmul")
_DTYPES = {"c10::BFloat16": "bf16", "c10::Half": "fp16", "float": "fp32"}


class Window(NamedTuple):
    """Start and end of a step."""

    begin: float
    end: float


class AttentionCall(NamedTuple):
    """One call of attention: start, sequences, new tokens and visible tokens."""

    begin: float
    batch: int
    new_tokens: int
    context_tokens: int


class Spans:
    """Events of one kind in compact arrays: a trace has millions."""

    def __init__(self) -> None:
        self.begins, self.lengths, self.names, self.threads = array("d"), array("d"), array("l"), array("l")

    def __len__(self) -> int:
        return len(self.begins)

    def add(self, begin: float, length: float, name: int, thread: int) -> None:
        """Add an event."""
        self.begins.append(begin)
        self.lengths.append(length)
        self.names.append(name)
        self.threads.append(thread)

    def whole(self) -> Iterator[tuple[float, int, float]]:
        """Start, name and length of each: kernels do not nest."""
        return zip(self.begins, self.names, self.lengths, strict=True)

    def own(self) -> Iterator[tuple[float, int, float]]:
        """Start, name and self time of each, thread by thread."""
        order = sorted(range(len(self)), key=lambda one: (self.threads[one], self.begins[one], -self.lengths[one]))
        around: list[int] = []
        for one in order:
            begin = self.begins[one]
            while around and not self._holds(around[-1], one):
                around.pop()
            if around:
                yield self.begins[around[-1]], self.names[around[-1]], -self.lengths[one]
            yield begin, self.names[one], self.lengths[one]
            around.append(one)

    def _holds(self, outer: int, inner: int) -> bool:
        return self.threads[outer] == self.threads[inner] and (
            self.begins[outer] + self.lengths[outer] > self.begins[inner]
        )


class TraceEvents:
    """Takes the events of a trace one by one."""

    def __init__(self) -> None:
        self.kernels, self.operators = Spans(), Spans()
        self.device_steps: dict[str, Window] = {}
        self.host_steps: dict[str, Window] = {}
        self.fused: list[AttentionCall] = []
        self.scores: list[AttentionCall] = []
        self.dtype: str | None = None
        self.backward = False
        self._names: dict[str, int] = {}
        self._threads: dict[tuple[str, str], int] = {}

    @property
    def names(self) -> list[str]:
        """Names by number."""
        return list(self._names)

    @property
    def calls(self) -> list[AttentionCall]:
        """Calls of attention: of the fused operator, or else of the softmax of its scores."""
        return self.fused or self.scores

    def take(self, event: Any) -> None:
        """Store the needed part of an event."""
        if not isinstance(event, dict) or event.get("ph") != "X" or "dur" not in event:
            return
        kind, name = event.get("cat"), str(event["name"])
        if kind in _ON_DEVICE:
            self._keep(self.kernels, event, name)
        elif kind == "cpu_op":
            if not self.kernels:
                self._keep(self.operators, event, name)
            self._look(event, name)
        elif name.startswith(_MARK):
            begin, length = _times(event)
            steps = self.device_steps if str(kind).startswith("gpu") else self.host_steps
            steps[name] = Window(begin, begin + length)

    def _keep(self, spans: Spans, event: dict[str, Any], name: str) -> None:
        thread = str(event.get("pid")), str(event.get("tid"))
        number = self._names.setdefault(_printable(name), len(self._names))
        spans.add(*_times(event), number, self._threads.setdefault(thread, len(self._threads)))

    def _look(self, event: dict[str, Any], name: str) -> None:
        self.backward |= name.startswith(_BACKWARD)
        arguments = event.get("args") or {}
        if self.dtype is None and name in _PRODUCTS:
            self.dtype = _DTYPES.get(next(iter(arguments.get("Input type") or [None])))
        if name not in (_FUSED, _SCORES):
            return
        begin, dims = _times(event)[0], [one for one in arguments.get("Input Dims") or [] if _are_four(one)]
        if name == _FUSED and len(dims) >= 2:
            self.fused.append(AttentionCall(begin, dims[0][0], dims[0][2], dims[1][2]))
        elif name == _SCORES and dims:
            self.scores.append(AttentionCall(begin, dims[0][0], dims[0][2], dims[0][3]))


def step_of(windows: Sequence[Window], begin: float) -> int | None:
    """The step in which an event began; None outside of all. `windows` are in ascending order."""
    place = bisect_right(windows, begin, key=lambda window: window.begin) - 1
    return place if place >= 0 and begin < windows[place].end else None


def _are_four(dims: Any) -> bool:
    return isinstance(dims, list) and len(dims) == 4 and all(type(one) is int and one > 0 for one in dims)


def _times(event: dict[str, Any]) -> tuple[float, float]:
    begin, length = float(event["ts"]), float(event["dur"])
    if not (isfinite(begin) and isfinite(length)):
        raise ValueError(f"times must be finite; {event['name']} began at {begin} and took {length}")
    return begin, length


def _printable(name: str) -> str:
    return name if name.isascii() else name.encode("utf-8", "replace").decode()
