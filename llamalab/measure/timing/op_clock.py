"""The time of every operation: a tap that takes a timestamp at each point of the model.

Every operation of the cost table is followed immediately by its point, so that the time between two points is that of
the second point's operation. It needs neither profiler nor synchronisation: one mark a point.
"""

from collections import defaultdict
from collections.abc import Callable

import torch

from llamalab.instrument.points import BLOCK, POINTS, op_of, point_of
from llamalab.measure.timing.clock import Clock

MARKS_OF_A_PASS = 1 << 13  # more than the points of any model's pass
MARKS_READY = 2 * MARKS_OF_A_PASS  # marks of a clock: passes accumulate up to half of them, and one more may follow
UNTIMED = ""  # the row of an interval that belongs to no operation


class OpClock:
    """A tap that times what `row_of` maps a point to; points mapped to None are passed over.

    The time of points passed over goes to the next timed point, and the time of `UNTIMED` to none. Passes accumulate
    until they are read; `settle` between two passes keeps the clock from running out of marks.
    """

    reads_tensors = edits = False

    def __init__(self, clock: Clock, row_of: Callable[[str], str | None]) -> None:
        self._clock, self._row_of = clock, row_of
        self._rows: list[str | None] = []  # the row of each interval; None between two passes
        self._started = False
        self._settled: list[dict[str, float]] = []
        self._known: dict[str, str | None] = {}

    def start(self) -> None:
        """Begin a pass: time until the first point belongs to that point."""
        if self._started:
            self._rows.append(None)
        self._started = True
        self._clock.mark()

    def wants(self, name: str) -> bool:
        """Whether a timed operation ends at this point."""
        return self._row(name) is not None

    def __call__(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        row = self._row(name)
        if row is not None:
            self._clock.mark()
            self._rows.append(row)
        return tensor

    def settle(self) -> None:
        """Before a pass: read the clock, which synchronises the device, if it may lack marks for one more pass."""
        if len(self._rows) >= MARKS_OF_A_PASS:
            self._settled += self._read()

    def read(self) -> list[dict[str, float]]:
        """Seconds of each row, summed over the blocks, for every pass since the last call."""
        passes, self._settled = [*self._settled, *(self._read() if self._started else [])], []
        return passes

    def _read(self) -> list[dict[str, float]]:
        passes: list[dict[str, float]] = [defaultdict(float)]
        for row, interval_s in zip(self._rows, self._clock.read(), strict=True):
            if row is None:
                passes.append(defaultdict(float))
            elif row != UNTIMED:
                passes[-1][row] += interval_s
        self._rows, self._started = [], False
        return [dict(rows) for rows in passes]

    def _row(self, name: str) -> str | None:
        if name not in self._known:
            self._known[name] = self._row_of(name)
        return self._known[name]


def cost_rows(algorithm: str) -> Callable[[str], str | None]:
    """Points to rows of the cost table, with the names of flash or naive attention.

    The angles of RoPE, computed once per pass before the first block, are in no row.

    >>> cost_rows("flash")("layers.3.attention.z"), cost_rows("flash")("layers.0.resid_pre")
    ('layers.*.attention.flash', '')
    """

    def row_of(point: str) -> str | None:
        return UNTIMED if point_of(point) == BLOCK[0] else op_of(point, algorithm=algorithm)

    return row_of


def model_part_of(point: str) -> str | None:
    """Points to the three parts of the model: few marks, so that the pass stays clean.

    Work done once before the first block counts as embedding.

    >>> [model_part_of(point) for point in ("layers.0.resid_pre", "layers.3.resid_post", "logits", "embed")]
    ['embedding', 'block', 'head', None]
    """
    if point_of(point) == BLOCK[-1]:
        return "block"
    return {BLOCK[0].name.replace("*", "0"): "embedding", POINTS[-1].name: "head"}.get(point)
