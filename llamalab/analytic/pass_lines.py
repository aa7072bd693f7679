"""FLOPs and bytes of every row of a pass as linear functions of its tokens, without an op table for each pass.

Rows of a pass are linear in its tokens, in whole numbers, where an element takes whole bytes: two tables determine the
line, and all other passes follow from it. Attention in a step is linear in the visible keys, for each batch.
Attention in a prompt and experts are computed for each pass. `tests/analytic/test_pass_lines.py` compares all of it
with the op table, exactly.
"""

from functools import lru_cache

from llamalab.analytic.attention_cost import causal_pairs, keys_in_view
from llamalab.analytic.op import Op, rate_classes
from llamalab.analytic.ops import ATTENTION, attention_ops, mixture_ops
from llamalab.analytic.packed_weights import unpacked_ops
from llamalab.analytic.parallel import collective_mode
from llamalab.analytic.roofline import moved_bytes
from llamalab.analytic.split_attention import split_ops
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.arch import LlamaArch
from llamalab.checks import MOST_COUNT
from llamalab.startup.hints import Any, NamedTuple
from llamalab.units import takes_whole_bytes

_FEW = 2  # fewest rows of the line: a single row uses a kernel of its own


class Line(NamedTuple):
    """FLOPs, bytes moved and bytes of weights of a row of the op table: without any rows or keys, and for each.

    `buffer` is the line of a collective's buffer, by whose size its kernel is chosen.
    """

    name: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a line
    kind: str
    classes: tuple[str, ...]
    flops: int
    moved: int
    weight: int
    flops_each: int = 0
    moved_each: int = 0
    weight_each: int = 0
    buffer: tuple[int, int] | None = None

    def at(self, amount: int, ranks: int) -> "Line":
        """A collective of so many rows, as it is sent."""
        none, each = self.buffer or (0, 0)
        classes = rate_classes(self.kind, collective_mode(self.name, none + each * amount, ranks))
        moved = self.moved + self.moved_each * amount
        return Line(
            name=self.name, count=self.count, kind=self.kind, classes=classes, flops=0, moved=moved, weight=self.weight
        )


def line_of(op: Op) -> Line:
    """The figures of a row of an op table."""
    return Line(
        name=op.name,
        count=op.count,
        kind=op.kind,
        classes=op.rate_classes,
        flops=op.flops_causal,
        moved=moved_bytes(op),
        weight=op.weight_bytes,
    )


class Around(NamedTuple):
    """The groups of a pass except attention and experts, in order; `head` depends on the positions with logits."""

    before: list[Line]
    between: list[Line]
    after: list[Line]
    head: list[Line]


class Keys(NamedTuple):
    """Attention of a step: lines in the visible keys, at most as many as a window allows."""

    most: int
    lines: list[Line]


class PassLines:
    """The passes of a model with fixed number formats, kernels and ranks, of any batch and tokens."""

    def __init__(self, arch: LlamaArch, manner: Workload) -> None:
        self.arch, self.manner, self.shape = arch, manner, manner.shape(1, 1)
        stored_whole = all(map(takes_whole_bytes, (self.shape.dtype, self.shape.kv_storage)))
        wide = all(window is None or window > _FEW + 1 for window, _ in arch.windows)
        self.is_straight = stored_whole and wide and (manner.unpack_rows is None or manner.unpack_rows > _FEW + 1)
        self._around = lru_cache(maxsize=3)(self._lines)
        self._calls, self.keys = lru_cache(maxsize=1)(self._find_calls), lru_cache(maxsize=256)(self._keys)
        self.times: dict[Any, Any] = {}  # of analytic.pass_times, by rates

    def table(self, batch: int, new_tokens: int, context_tokens: int) -> list[Line]:
        """All rows of one pass."""
        return list(map(line_of, self._table(batch, new_tokens, context_tokens)))

    def around(self, rows: int) -> Around:
        """Lines that hold for so many rows."""
        return self._around(self.regime(rows))

    def regime(self, rows: int) -> int:
        """The fewest rows that run in the same kernels as so many."""
        unpack_rows = self.manner.unpack_rows
        if unpack_rows is not None and rows >= unpack_rows:
            return unpack_rows
        return 1 if rows == 1 else _FEW

    def attention(self, batch: int, new_tokens: int, context_tokens: int) -> list[Line]:
        """Attention of one pass of several tokens."""
        found = []
        for line, window, pair, row, key, score in self._calls():
            keys = keys_in_view(new_tokens, context_tokens, window)
            moved = batch * (new_tokens * row + keys * (key + new_tokens * score))
            flops = batch * causal_pairs(new_tokens, keys, window) * pair
            found.append(Line(*line[:4], flops, line.moved + moved, line.weight))
        return found

    def experts(self, rows: int) -> list[Line]:
        """Rows of a mixture, which activates more experts the more rows there are."""
        return list(map(line_of, self._experts(rows))) if self.arch.experts else []

    def _keys(self, batch: int) -> list[Keys]:
        """Attention of a step, by window."""
        step = attention_ops(self.arch, self.shape)
        heads, split_heads = batch * self.arch.n_heads // self.shape.tensor_parallel, self.manner.split_heads
        split = split_ops(step, heads=heads, split_heads=split_heads)
        found: list[Keys] = []
        for op, (line, window, pair, row, key, score) in zip(split, self._calls(), strict=True):
            own = Line(
                *line_of(op)[:4],
                flops=0,
                moved=line.moved + batch * row,
                weight=line.weight,
                flops_each=batch * pair,
                moved_each=batch * (key + score),
            )
            most = window or MOST_COUNT
            if found and found[-1].most == most:
                found[-1].lines.append(own)
            else:
                found.append(Keys(most, [own]))
        return found

    def _find_calls(self) -> list[tuple[Line, int | None, int, int, int, int]]:
        """Each row of attention at zero tokens, its window, and its increments per pair, query, key and score."""
        shapes = [(1, 2, 2), (1, 2, 3), (1, 3, 3), (2, 2, 2)]  # sequences, new tokens and context of each
        tables = [
            attention_ops(self.arch, self.shape._replace(batch=batch, new_tokens=new, context_tokens=context))
            for batch, new, context in shapes
        ]
        windows = [window for window, _ in self.arch.windows]
        found = []
        for place, rows in enumerate(zip(*tables, strict=True)):
            window = windows[place * len(windows) // len(tables[0])]
            one, more_keys, more, twice = (moved_bytes(op) for op in rows)
            score = (2 * (more - one) - (twice - one)) // 6
            key = more_keys - one - 2 * score
            row = more - more_keys - 3 * score
            line = line_of(rows[0])
            pair = line.flops // causal_pairs(2, 2)
            found.append((line._replace(flops=0, moved=2 * one - twice), window, pair, row, key, score))
        return found

    def _table(self, batch: int, new_tokens: int, context_tokens: int) -> tuple[Op, ...]:
        return pass_ops(self.arch, self.manner._replace(batch=batch), new_tokens, context_tokens)

    def _experts(self, rows: int) -> tuple[Op, ...]:
        if self.arch.experts is None:
            return ()
        ops, unpack_rows = mixture_ops(self.arch, self.shape._replace(batch=rows)), self.manner.unpack_rows
        return unpacked_ops(ops, rows=rows, dtype=self.shape.dtype, unpack_rows=unpack_rows, head_bytes=None)

    def _lines(self, low: int) -> Around:
        """Lines in rows from `low` on, through the tables of two steps; of a single row its own figures."""
        high = low if low == 1 else low + 1
        tables = self._table(low, 1, 1), self._table(high, 1, 1)
        experts = {op.name for op in self._experts(low)}
        groups: list[list[Line]] = [[], [], [], []]
        place = 0
        for op, line in zip(tables[0], _through(*tables, low, high), strict=True):
            if op.step == ATTENTION:
                place = 1
            elif op.name in experts:
                place = 2
            else:
                groups[3 if op.step == "logits" else place].append(line)
        return Around(*groups)


def _through(one: tuple[Op, ...], two: tuple[Op, ...], low: int, high: int) -> list[Line]:
    """The straight lines through the figures of rows at `low` and at `high`."""
    return [_line(*rows, low, high) for rows in zip(one, two, strict=True)]


def _line(one: Op, two: Op, low: int, high: int) -> Line:
    here, there = ((*line_of(op)[4:7], op.read_bytes) for op in (one, two))
    each = [(more - less) // (high - low or 1) for less, more in zip(here, there, strict=True)]
    flops, moved, weight, buffer = (less - slope * low for less, slope in zip(here, each, strict=True))
    sent = (buffer, each[3]) if one.kind == "collective" else None
    name, count, kind, classes, *_ = line_of(one)
    return Line(
        name=name,
        count=count,
        kind=kind,
        classes=classes,
        flops=flops,
        moved=moved,
        weight=weight,
        flops_each=each[0],
        moved_each=each[1],
        weight_each=each[2],
        buffer=sent,
    )


def pass_lines(arch: LlamaArch, work: Workload) -> PassLines:
    """Those of a run, whatever its lengths.

    >>> from llamalab.presets import PRESETS
    >>> lines = pass_lines(PRESETS["7b"].arch, Workload(512))
    >>> [line.moved_each for line in lines.around(512).before if line.name == "tok_embeddings"]
    [16384]
    """
    return _pass_lines(arch, work.manner)


@lru_cache(maxsize=1024)
def _pass_lines(arch: LlamaArch, manner: Workload) -> PassLines:
    return PassLines(arch, manner)
