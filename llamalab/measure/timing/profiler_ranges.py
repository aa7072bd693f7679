"""Operations as named ranges in the profiler: a tap that opens and closes them.

A point follows its operation, so that the next range's name comes from the order of the points. Ranges are named like
rows of the cost table with the layer's number. `SETUP` is work done once between the embedding and the first block:
the angles of RoPE, and masks where there are any.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.analytic.op import joined_name
from llamalab.instrument.points import ALWAYS, BLOCK, Point, inside_points, op_of, point_of
from llamalab.instrument.selection import layer_of

SETUP = "setup"
_REDUCED = {
    f"layers.*.{home}.{product}": f"layers.*.{home}.all_reduce"
    for home, product in (("attention", "wo"), ("feed_forward", "w2"))
}
Label = Callable[[str], str | None]


class Span(NamedTuple):
    """An operation in one layer, its start and its end in ns of the system's clock."""

    name: str
    start_ns: int
    end_ns: int


def own_labels(algorithm: str, ranks: int = 1) -> Label:
    """The row that ends at a point of the built-in model, or SETUP; on several ranks some points end two.

    >>> label = own_labels("flash")
    >>> label("layers.0.resid_pre"), label("layers.1.resid_pre"), label("layers.1.attention.z")
    ('setup', None, 'layers.*.attention.flash')
    """
    setup = BLOCK[0].name.replace("*", "0")

    def label(point: str) -> str | None:
        if point == setup:
            return SETUP
        row = op_of(point, algorithm=algorithm)
        return joined_name((row, _REDUCED[row])) if ranks > 1 and row in _REDUCED else row

    return label


def merged_labels(algorithm: str, together: Mapping[str, str] | None = None) -> Label:
    """The same for a model without points between its projections and their output: one row for all of it.

    `together` gives rows of their own to points (named without layer) that one operation makes; the row belongs to the
    last of these points, and the others have "".

    >>> merged_labels("flash")("layers.1.attention.z"), merged_labels("flash")("layers.1.attention.rot_q")
    ('layers.*.attention.rope+kv_append+flash', None)
    >>> fused = merged_labels("flash", {"feed_forward.gate": "", "feed_forward.up": "feed_forward.w1+w3"})
    >>> fused("layers.1.feed_forward.gate"), fused("layers.1.feed_forward.up")
    (None, 'layers.*.feed_forward.w1+w3')
    """
    own, (*hidden, last), fused = own_labels(algorithm), inside_points(), together or {}
    rows = dict.fromkeys(row for point in (*hidden, last) if (row := op_of(point.name, algorithm=algorithm)))
    merged = joined_name(tuple(rows))

    def label(point: str) -> str | None:
        found, inside = point_of(point), point.split(".", 2)[-1]
        if inside in fused:
            return f"layers.*.{fused[inside]}" if fused[inside] else None
        return merged if found == last else None if found.inside else own(point)

    return label


def op_ends(n_layers: int, label: Label, points: Sequence[Point] = ALWAYS) -> list[tuple[str, str]]:
    """(point, name of the operation that it ends), in the order of a pass; an operation ends at its last point.

    >>> op_ends(1, own_labels("flash"))[5:8]  # doctest: +NORMALIZE_WHITESPACE
    [('layers.0.attention.v', 'layers.0.attention.wv'), ('layers.0.attention.rot_k', 'layers.0.attention.rope'),
     ('layers.0.attention.v_cache', 'layers.0.attention.kv_append')]
    """
    first, *last = (point.name for point in points if "*" not in point.name)
    inner = [point.name for point in points if "*" in point.name]
    in_layers = [name.replace("*", str(layer)) for layer in range(n_layers) for name in inner]
    ends: list[tuple[str, str]] = []
    for point in (first, *in_layers, *last):
        starred = label(point)
        if starred is None:
            continue
        layer = layer_of(point)
        name = starred if layer is None else starred.replace("*", str(layer))
        if ends and ends[-1][1] == name:
            ends.pop()
        ends.append((point, name))
    return ends


class Ranges:
    """A tap that puts each operation of a pass into a range of the profiler, and records its span.

    `start` comes before the pass and `stop` after it; a range costs about a microsecond.
    """

    reads_tensors = edits = False

    def __init__(self, n_layers: int, label: Label, points: Sequence[Point] = ALWAYS) -> None:
        self._ends = op_ends(n_layers, label, points)
        self._points = frozenset(point for point, _ in self._ends)
        self.spans: list[Span] = []
        self._open: tuple[str, int, torch.autograd.profiler.record_function] | None = None
        self._at = 0

    def wants(self, name: str) -> bool:
        """Whether an operation ends at this point."""
        return name in self._points

    def start(self) -> None:
        """Begin a pass, and its first operation."""
        self._at, self.spans = 0, []
        self._begin()

    def stop(self) -> None:
        """Close open ranges of a pass that failed."""
        if self._open is not None:
            self._end()

    def __call__(self, name: str, tensor: Tensor, /) -> Tensor:
        if self._open is not None and name == self._ends[self._at][0]:
            self._end()
            self._at += 1
            if self._at < len(self._ends):
                self._begin()
        return tensor

    def _begin(self) -> None:
        name = self._ends[self._at][1]
        mark = torch.autograd.profiler.record_function(name)
        began = time.time_ns()
        mark.__enter__()  # type: ignore[no-untyped-call]
        self._open = (name, began, mark)

    def _end(self) -> None:
        assert self._open is not None
        name, began, mark = self._open
        mark.__exit__(None, None, None)
        self.spans.append(Span(name, began, time.time_ns()))
        self._open = None


def starred(name: str) -> str:
    """The row of the cost table for an operation of one layer.

    >>> starred("layers.3.attention.wq"), starred("output")
    ('layers.*.attention.wq', 'output')
    """
    layer = layer_of(name)
    return name if layer is None else name.replace(f"layers.{layer}.", "layers.*.", 1)
