"""Seconds of passes at given rates, with the constants of rows, and rows common to passes, evaluated once.

Two kinds: the predicted time (`predicted`) and its lower bound (`least_times`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from llamalab.analytic.op import Op
from llamalab.analytic.pass_lines import Line, PassLines, line_of
from llamalab.analytic.roofline import Rates, rates_of_classes, soft_maximum
from llamalab.startup.hints import Any, NamedTuple

_KEPT = 512  # timings of one PassLines: of every device of a sweep two


class Timing(NamedTuple):
    """How rows are timed: `prepare` a line with its rates, then `seconds` of all occurrences, of so many rows each."""

    prepare: Callable[[Line, Rates], Any]
    seconds: Callable[[Sequence[Any], int], list[float]]


def _prepared(line: Line, rates: Rates) -> tuple[float, ...]:
    peak, bandwidth, t0, compute, memory, q = rates
    _, count, _, _, flops, moved, _, flops_each, moved_each, _, _ = line
    return count, t0, flops, flops_each, peak * compute if peak else 0.0, moved, moved_each, bandwidth * memory, q


def _predicted_s(rows: Sequence[tuple[float, ...]], amount: int) -> list[float]:
    found = []
    for count, t0, flops, flops_each, flops_per_s, moved, moved_each, bytes_per_s, q in rows:
        work_s = (moved + moved_each * amount) / bytes_per_s
        if flops_per_s:
            work_s = soft_maximum((flops + flops_each * amount) / flops_per_s, work_s, q)
        found.append(count * (t0 + work_s))
    return found


PREDICTED = Timing(_prepared, _predicted_s)


@lru_cache(maxsize=1024)
def least_times(cache_bytes: int, resident: bool) -> Timing:
    """The least times; `resident`: whether weights and KV cache fit into the last-level cache of `cache_bytes`."""

    def prepare(line: Line, rates: Rates) -> tuple[Any, ...]:
        sent, keys = line.kind == "collective", line.kind == "attention"
        return line.count, sent, keys, *line[4:10], rates.peak_flops_per_s, rates.bandwidth_bytes_per_s

    def seconds(rows: Sequence[tuple[Any, ...]], amount: int) -> list[float]:
        found = []
        for count, sent, keys, flops, moved, weight, flops_each, moved_each, weight_each, peak, bandwidth in rows:
            through = moved + moved_each * amount
            if not sent:
                weights = weight + weight_each * amount
                if resident:
                    through = 0
                elif not keys and through - weights <= cache_bytes:  # keys come from memory: weights passed between
                    through = weights
            compute_s = (flops + flops_each * amount) / peak if peak else 0.0
            found.append(count * max(compute_s, through / bandwidth))
        return found

    return Timing(prepare, seconds)


class _Step(NamedTuple):
    """A step of one batch: seconds before attention, attention by window, and each row after it."""

    before_s: list[float]
    keys: list[tuple[int, list[Any]]]
    after_s: list[float]
    lines: list[Line]


class _Group(NamedTuple):
    """Prepared rows, and the collectives among them, whose kernel depends on their size."""

    rows: list[Any]
    sent: list[tuple[int, Line]]


class _Around(NamedTuple):
    """All rows but attention and experts, the places where these belong, and the rows of the head."""

    body: _Group
    attention: int
    experts: int
    head: _Group


class PassTimes:
    """Seconds of the passes of a model in one manner at one timing."""

    def __init__(self, lines: PassLines, rates: Mapping[str, Rates], timing: Timing) -> None:
        self.lines, self.rates, self.timing = lines, rates, timing
        self.step = lru_cache(maxsize=256)(self._step)
        self._around = lru_cache(maxsize=3)(self._prepare_around)
        self._covers_one = lru_cache(maxsize=256)(self._compare_with_one)

    def pass_s(self, batch: int, new_tokens: int, context_tokens: int) -> float:
        """Seconds of one pass. Raises UnavailableError where an operation has no constants."""
        if not self.lines.is_straight:
            return _sum(0.0, self._seconds(self.lines.table(batch, new_tokens, context_tokens)))
        if new_tokens == 1:
            step = self.step(batch)
            total_s = _sum(0.0, step.before_s)
            for most, rows in step.keys:
                total_s = _sum(total_s, self.timing.seconds(rows, min(context_tokens, most)))
            return _sum(total_s, step.after_s)
        before_s, after_s = self._around_s(batch * new_tokens, batch)
        attention_s = self._seconds(self.lines.attention(batch, new_tokens, context_tokens))
        return _sum(_sum(_sum(0.0, before_s), attention_s), after_s)

    def held_s(self, batch: int, new_tokens: int, context_tokens: int) -> float:
        """Seconds of one pass, at least those of one of its tokens alone, and of one of its sequences.

        A single row, and a few, run in kernels of their own, whose constants are fitted apart: without the floor two
        tokens could come out faster than one, in one sequence or in two.
        """
        regime = self.lines.regime
        same_kernels = new_tokens == 1 or regime(new_tokens) == regime(batch * new_tokens)
        batches = {batch} if same_kernels and self._covers_one(batch) else {batch, 1}
        return max([self.pass_s(number, new, context_tokens) for number in batches for new in {new_tokens, 1}])

    def _step(self, batch: int) -> _Step:
        before_s, after_s = self._around_s(batch, batch)
        keys = self.lines.keys(batch)
        prepared = [(most, self._prepare(lines)) for most, lines in keys]
        return _Step(before_s, prepared, after_s, [line for _, lines in keys for line in lines])

    def _compare_with_one(self, batch: int) -> bool:
        """Whether no row of a step of one sequence takes longer than the same row of this batch.

        Then a pass of the batch takes no less than one of a single sequence, as rows take longer the more there are.
        """
        if batch == 1 or not self.lines.is_straight or self.lines.shape.tensor_parallel > 1:
            return batch == 1
        one, several = self.step(1), self.step(batch)
        pairs = zip((*one.before_s, *one.after_s), (*several.before_s, *several.after_s), strict=True)
        lines = zip(one.lines, several.lines, strict=True)
        return all(alone <= beside for alone, beside in pairs) and all(
            alone.classes == beside.classes
            and all(less <= more for less, more in zip(alone[4:10], beside[4:10], strict=True))
            for alone, beside in lines
        )

    def _around_s(self, rows: int, batch: int) -> tuple[list[float], list[float]]:
        """Seconds of the rows before attention and after it, in a pass of so many rows."""
        around, last = self._around(self.lines.regime(rows)), rows if self.lines.shape.logits == "all" else batch
        body_s = self._group_s(around.body, rows)
        head_s = self._group_s((around if last > 1 else self._around(1)).head, last)
        experts_s = self._seconds(self.lines.experts(rows))
        return body_s[: around.attention], [
            *body_s[around.attention : around.experts],
            *experts_s,
            *body_s[around.experts :],
            *head_s,
        ]

    def _prepare_around(self, low: int) -> _Around:
        lines = self.lines.around(low)
        attention = len(lines.before)
        body, experts = [*lines.before, *lines.between, *lines.after], attention + len(lines.between)
        return _Around(self._group(body), attention, experts, self._group(lines.head))

    def _group(self, lines: list[Line]) -> _Group:
        sent = [(place, line) for place, line in enumerate(lines) if line.buffer is not None]
        return _Group(self._prepare(lines), sent)

    def _group_s(self, group: _Group, amount: int) -> list[float]:
        found = self.timing.seconds(group.rows, amount)
        for place, line in group.sent:
            found[place] = self._seconds([line.at(amount, self.lines.shape.tensor_parallel)])[0]
        return found

    def _seconds(self, lines: list[Line]) -> list[float]:
        return self.timing.seconds(self._prepare(lines), 0)

    def _prepare(self, lines: Iterable[Line]) -> list[Any]:
        prepare, rates = self.timing.prepare, self.rates
        return [prepare(line, rates_of_classes(line.name, line.classes, rates)) for line in lines]


def _sum(total_s: float, parts_s: Iterable[float]) -> float:
    """A sum in order, as over a table: later versions of Python's sum() round differently."""
    for part_s in parts_s:
        total_s += part_s
    return total_s


def pass_times(lines: PassLines, rates: Mapping[str, Rates], timing: Timing) -> PassTimes:
    """Those of a manner at these rates, remembered."""
    known, key = lines.times, (id(rates), timing)
    found: PassTimes | None = known.get(key)
    if found is None:
        if len(known) >= _KEPT:
            known.clear()
        found = known[key] = PassTimes(lines, rates, timing)  # it holds the rates, so that their number stays their own
    return found


def op_s(op: Op, rates: Rates, timing: Timing) -> float:
    """Seconds of one occurrence of an operation."""
    return timing.seconds([timing.prepare(line_of(op)._replace(count=1), rates)], 0)[0]


def pass_s(ops: Iterable[Op], rates: Mapping[str, Rates]) -> float:
    """Predicted seconds of one pass: what total_s(ops, predict_pass(ops, rates)) gives, without the table."""
    lines = map(line_of, ops)
    rows = [PREDICTED.prepare(line, rates_of_classes(line.name, line.classes, rates)) for line in lines]
    return _sum(0.0, PREDICTED.seconds(rows, 0))
