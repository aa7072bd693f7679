"""One measured pass with its prediction: every operation, every part, the whole pass, and its limiting roof.

error = predicted / measured - 1: positive where the prediction was too slow.
"""

from functools import cached_property

from llamalab.analytic.activations import Live, memory_of, peak_activation_bytes
from llamalab.analytic.op import Op, add_up
from llamalab.analytic.roofline import Prediction
from llamalab.comparison.basis import RecordBasis, weight_roof_kind
from llamalab.comparison.pass_ops import ops_of, shape_of_pass
from llamalab.records.record import Measurement, Pass, Record
from llamalab.startup.hints import NamedTuple

PASS_PARTS = ("embedding", "block", "head")


class Row(NamedTuple):
    """One operation in one phase: prediction and measurement of an occurrence; `reason` is set where either is missing.

    About 9 of 10 measurements are expected in `interval_s`, None where the basis has no interval. `outside` says
    that no fitted kernel was of similar size, for which the interval is wide.
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
        """Bound over measured time: the share of its roof that was reached, at most 1."""
        if self.prediction is None or not self.measured_s:
            return None
        return min(1.0, self.prediction.bound_s / self.measured_s)  # only rounding exceeds 1


class PassLimit(NamedTuple):
    """The roof that limits a whole pass, and the rate that the pass reached of it, in FLOP/s or byte/s."""

    name: str
    rate: float | None
    roof: float | None

    @property
    def fraction(self) -> float | None:
        """Reached rate over the roof, at most 1."""
        return min(1.0, self.rate / self.roof) if self.rate and self.roof else None


class Phase:
    """One measured pass with its prediction."""

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
        return tuple((part, self._part_s(part), measured.get(part)) for part in PASS_PARTS)

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
        """The share of the pass taken by all occurrences of an operation; None where it was not measured."""
        return None if row.measured_s is None else row.op.count * row.measured_s / self.measured_s

    @property
    def tokens(self) -> int:
        """Tokens of one pass: all of a prefill's, one per sequence of a decode step."""
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
        """The step predicted to hold most activations, and its bytes."""
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


def relative_error(predicted: float | None, measured: float | None) -> float | None:
    """Predicted / measured - 1, None where either is not known.

    >>> round(relative_error(1.2, 1.0), 6), relative_error(None, 1.0)
    (0.2, None)
    """
    return predicted / measured - 1 if predicted is not None and measured else None
