"""Predicted against measured: the join of both on the names of operations.

Predictions rest on the constants that were calibrated on the record's machine, or else on its own roofs
(llamalab.comparison.basis); null where a roof is absent or untrusted.

error = predicted / measured - 1: positive where the prediction was too slow. A measurement faster than its roof is the
roof (llamalab.comparison.held_roofs), and is explained by name.
"""

from functools import cached_property
from statistics import median
from typing import NamedTuple

from llamalab.analytic.activations import Live, attention_bytes, memory_of, peak_activation_bytes
from llamalab.analytic.attention_cost import AttentionShape, flash_step, naive_steps
from llamalab.analytic.kept_weights import model_weight_bytes
from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token
from llamalab.analytic.memory import room_in
from llamalab.analytic.ops import Op, add_up
from llamalab.analytic.params import parameter_count
from llamalab.analytic.roofline import Prediction
from llamalab.comparison.basis import RecordBasis, basis_of, weight_roof_kind
from llamalab.comparison.held_roofs import hold_roofs, raised_sentence
from llamalab.comparison.kv_cells import CacheCell, kv_cells
from llamalab.comparison.pass_ops import ops_of, shape_of_pass
from llamalab.errors import DoesNotFitError
from llamalab.records.record import AttentionPoint, Measurement, Pass, Record

PARTS = ("embedding", "block", "head")


class ExactCheck(NamedTuple):
    """A number that must be exactly what was counted."""

    expected: int
    measured: int

    @property
    def exact(self) -> bool:
        """Whether the two agree to the last unit."""
        return self.expected == self.measured


class Row(NamedTuple):
    """One name in one phase: prediction and measurement of one occurrence; `reason` says what lacks.

    About 9 of 10 measurements should lie in `interval_s`, None where the basis has no such figure. `outside` says
    that its constants were fitted on nothing like it, for which the interval is wide.
    """

    phase: str
    op: Op
    prediction: Prediction | None
    measurement: Measurement | None
    reason: str | None = None
    interval_s: tuple[float, float] | None = None
    outside: bool = False

    @property
    def predicted_s(self) -> float | None:
        """Predicted seconds of one occurrence."""
        return self.prediction.time_s if self.prediction else None

    @property
    def measured_s(self) -> float | None:
        """Median seconds of one occurrence."""
        return self.measurement.median_s if self.measurement else None

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1."""
        return relative_error(self.predicted_s, self.measured_s)

    @property
    def roof_fraction(self) -> float | None:
        """The bound over the measured time: the share of its roof that was reached, at most 1."""
        if self.prediction is None or not self.measured_s:
            return None
        return min(1.0, self.prediction.bound_s / self.measured_s)  # roofs are held: only rounding is cut off


class PassLimit(NamedTuple):
    """What holds a whole pass back, and how much of that roof it reached; rate in FLOP/s or byte/s."""

    name: str
    rate: float | None
    roof: float | None

    @property
    def fraction(self) -> float | None:
        """Reached rate over the roof, at most 1."""
        return min(1.0, self.rate / self.roof) if self.rate and self.roof else None


class Phase:
    """One measured pass beside its prediction."""

    def __init__(self, record: Record, run: Pass, basis: RecordBasis) -> None:
        self.record, self.run, self.basis = record, run, basis
        self.ops = ops_of(record, run)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The cost table joined with the measured ops by name."""
        measured = {one.name: one for one in self.run.ops}
        return tuple(self._row(op, measured.get(op.name)) for op in self.ops)

    @cached_property
    def parts(self) -> tuple[tuple[str, float | None, float | None], ...]:
        """(part, predicted seconds, measured seconds) of the clean passes, one occurrence each."""
        measured = {part.name: part.median_s for part in self.run.parts}
        return tuple((part, self._part_s(part), measured.get(part)) for part in PARTS)

    @property
    def unmatched(self) -> list[str]:
        """Measured names that the cost table does not have."""
        known = {op.name for op in self.ops}
        return [one.name for one in self.run.ops if one.name not in known]

    @cached_property
    def predicted_s(self) -> float | None:
        """Seconds of the whole pass; null where any op's prediction is."""
        times = [(row.op.count, row.predicted_s) for row in self.rows]
        return sum(count * time for count, time in times if time is not None) if self.reason is None else None

    @cached_property
    def interval_s(self) -> tuple[float, float] | None:
        """Low and high end of the predicted seconds of the pass; None where the basis knows none."""
        if self.predicted_s is None or self.basis.constants is None:
            return None
        bound_s = sum(row.op.count * row.prediction.bound_s for row in self.rows if row.prediction)
        low, high = self.basis.constants.interval(self.predicted_s, bound_s)
        return None if high is None else (low, high)

    @property
    def reason(self) -> str | None:
        """Why there is no prediction of the pass; None where there is one."""
        return next((row.reason for row in self.rows if row.prediction is None), None)

    @property
    def measured_s(self) -> float:
        """Seconds of the whole pass, clean, extrapolated where not every block ran."""
        return self.run.total_s

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1 of the whole pass."""
        return relative_error(self.predicted_s, self.measured_s)

    def share_of(self, row: Row) -> float | None:
        """The part of the pass that all occurrences of an operation take; None where it was not measured."""
        return None if row.measured_s is None else row.op.count * row.measured_s / self.measured_s

    @property
    def tokens(self) -> int:
        """Tokens that one pass yields: all of a prefill's, one per sequence of a decode."""
        return self.run.batch * self.run.new_tokens

    @property
    def predicted_tokens_per_s(self) -> float | None:
        """Predicted tokens per second."""
        return self.tokens / self.predicted_s if self.predicted_s else None

    @property
    def measured_tokens_per_s(self) -> float:
        """Measured tokens per second."""
        return self.tokens / self.measured_s

    @cached_property
    def limit(self) -> PassLimit | None:
        """The roof under which most of the predicted time is spent."""
        if self.predicted_s is None:
            return None
        spent: dict[str, float] = {}
        for row in self.rows:
            if row.prediction:
                name = row.prediction.limit
                spent[name] = spent.get(name, 0.0) + row.op.count * row.prediction.time_s
        name, totals = max(spent, key=lambda key: spent[key]), add_up(self.ops)
        work, kind = {
            "compute": (totals.flops_causal, "gemm"),
            "memory": (totals.bytes, weight_roof_kind(self.record, self.run.dtype)),
        }.get(name, (0, ""))
        roof = self.record.roof(kind, self.run.dtype)
        return PassLimit(name, work / self.measured_s if work else None, roof.per_second if roof else None)

    @cached_property
    def predicted_memory(self) -> Live:
        """The step that should hold most activations, and how much."""
        run = self.run
        return peak_activation_bytes(
            self.record.llama_arch, shape_of_pass(run)._replace(attention=memory_of(run.attention, run.algorithm))
        )

    def _row(self, op: Op, measurement: Measurement | None) -> Row:
        prediction = self.basis.predict(op, self.run.dtype)
        if isinstance(prediction, str):
            return Row(self.run.phase, op, None, measurement, prediction)
        reason = None if measurement else "not measured: the op-by-op pass has no such row"
        return Row(
            phase=self.run.phase,
            op=op,
            prediction=prediction,
            measurement=measurement,
            reason=reason,
            interval_s=self.basis.interval(op, prediction),
            outside=self.basis.outside(op),
        )

    def _part_s(self, part: str) -> float | None:
        rows = [row for row in self.rows if row.op.section == part]
        times = [row.predicted_s for row in rows]
        return None if None in times else sum(time for time in times if time is not None)


class AttentionRow(NamedTuple):
    """One backend at one length, beside its predicted time and memory."""

    point: AttentionPoint
    predicted_s: float | None
    predicted_bytes: int
    reason: str | None

    @property
    def measured_s(self) -> float | None:
        """Median seconds; None where it could not be run."""
        return median(self.point.samples_s) if self.point.samples_s else None

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1."""
        return relative_error(self.predicted_s, self.measured_s)


class Errors(NamedTuple):
    """How good the predictions are over all rows that have both accounts, less `outside` rows of the fitted range."""

    median: float
    p90: float
    worst: Row
    rows: int
    outside: int = 0


class Comparison:
    """A record and everything that can be said by holding prediction and measurement together."""

    def __init__(self, record: Record, stack: str | None = None) -> None:
        """`stack` is the software that predictions for other devices are of; None: what is usual on each."""
        self.stack = stack
        self.record, self.arch = hold_roofs(record), record.llama_arch
        self.basis = basis_of(self.record)
        self.phases = tuple(Phase(self.record, run, self.basis) for run in record.passes)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return model_weight_bytes(self.arch, self.record.dtype, self.record.kept)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of cache that one token takes."""
        return kv_bytes_per_token(self.arch, self.record.dtype)

    @property
    def kv_bytes_per_sequence(self) -> int:
        """Bytes of cache of one sequence as long as the model was trained for."""
        return kv_bytes(self.arch, seq=self.arch.max_positions, dtype=self.record.dtype)

    @property
    def free_bytes(self) -> int:
        """Memory of the device beside the weights; negative where they do not fit."""
        return self.record.environment.memory_bytes - self.weight_bytes

    @cached_property
    def kv_cells(self) -> tuple[CacheCell, ...]:
        """The cache under MHA, GQA and MQA for each length and batch that a page shows."""
        return kv_cells(self.arch, self.record.dtype, self.free_bytes)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all phases."""
        return tuple(row for phase in self.phases for row in phase.rows)

    @property
    def parameters(self) -> ExactCheck:
        """Parameters of the model as built, against the count."""
        return ExactCheck(parameter_count(self.arch), self.record.parameters_measured)

    @property
    def kv(self) -> ExactCheck:
        """Bytes of the last pass's cache as allocated, against the count."""
        run = self.record.passes[-1]
        expected = kv_bytes(self.arch, seq=run.context_tokens, batch=run.batch, dtype=run.kv_dtype or run.dtype)
        return ExactCheck(expected, self.record.kv_bytes_measured)

    @cached_property
    def errors(self) -> Errors | None:
        """Median, 90th percentile and worst |error| of the rows within the fitted range; None without any."""
        both = [(abs(row.error), i) for i, row in enumerate(self.rows) if row.error is not None]
        known = sorted((error, i) for error, i in both if not self.rows[i].outside)
        if not known:
            return None
        p90 = known[min(len(known) - 1, -(-9 * len(known) // 10) - 1)][0]
        return Errors(
            median(error for error, _ in known), p90, self.rows[known[-1][1]], len(known), len(both) - len(known)
        )

    @property
    def raised(self) -> tuple[str, ...]:
        """What was faster than every probe of a roof, by name and with a reason: one sentence per roof."""
        sentences = (raised_sentence(self.record, roof) for roof in self.record.roofs)
        return tuple(sentence for sentence in sentences if sentence)

    @cached_property
    def attention(self) -> tuple[AttentionRow, ...]:
        """The attention backends beside their predictions."""
        backend = self.record.passes[0].attention if self.record.passes else ""
        return tuple(_attention_row(self.basis, point, backend) for point in self.record.attention)

    def fits(self, seq: int) -> int:
        """The largest batch of `seq` tokens whose cache fits beside the weights; 0 where they do not fit."""
        memory_bytes, dtype = self.record.environment.memory_bytes, self.record.dtype
        try:
            return room_in(self.arch, memory_bytes, dtype=dtype).largest_batch(seq)
        except DoesNotFitError:
            return 0


def relative_error(predicted: float | None, measured: float | None) -> float | None:
    """Predicted / measured - 1, None where either is not known.

    >>> round(relative_error(1.2, 1.0), 6), relative_error(None, 1.0)
    (0.2, None)
    """
    return predicted / measured - 1 if predicted is not None and measured else None


def _attention_row(basis: RecordBasis, point: AttentionPoint, backend: str) -> AttentionRow:
    """`backend` is the one whose rate the basis knows."""
    shape = AttentionShape(
        point.batch,
        point.new_tokens,
        point.context_tokens,
        point.n_heads,
        point.n_kv_heads,
        point.head_dim,
        point.dtype,
        point.dtype,
    )
    steps = naive_steps(shape) if point.algorithm == "naive" else (flash_step(shape),)
    total, reason = 0.0, None
    mode = "decode" if point.new_tokens == 1 else "prefill"
    for step in steps:
        op = Op(
            step.name,
            "attention",
            1,
            step.flops_full,
            step.flops_causal,
            step.vector_flops,
            read_bytes=step.read_bytes,
            written_bytes=step.written_bytes,
            mode=mode,
            roof=step.roof,
        )
        prediction = basis.predict(op, point.dtype)
        if isinstance(prediction, str):
            reason = prediction
        else:
            total += prediction.time_s
    if point.algorithm == "flash" and point.backend != backend:
        reason = f"the roof of attention is that of {backend}, which the model runs"
    held = attention_bytes(shape, memory_of(point.backend, point.algorithm))
    return AttentionRow(point, None if reason else total, held, reason)
