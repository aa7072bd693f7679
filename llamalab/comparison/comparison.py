"""Predicted against measured: a record and every figure that follows from both.

`passes` joins the two accounts of a pass on the names of operations, `attention_rows` those of attention by itself.

Predictions rest on the constants that were calibrated on the record's machine, or else on its own roofs
(llamalab.comparison.basis); null where a roof is absent or untrusted.
An operation faster than its roof raises the roof (llamalab.comparison.held_roofs), and is named with the reason.
"""

from functools import cached_property
from statistics import median

from llamalab.analytic.kept_weights import model_weight_bytes
from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token
from llamalab.analytic.memory import room_in
from llamalab.analytic.params import parameter_count
from llamalab.comparison.attention_rows import AttentionRow, attention_row
from llamalab.comparison.basis import basis_of
from llamalab.comparison.held_roofs import hold_roofs, raised_sentence
from llamalab.comparison.kv_cells import CacheCell, kv_cells
from llamalab.comparison.passes import Phase, Row
from llamalab.errors import DoesNotFitError
from llamalab.records.record import Record
from llamalab.startup.hints import NamedTuple


class ExactCheck(NamedTuple):
    """A measured number that must equal its count exactly."""

    expected: int
    measured: int

    @property
    def exact(self) -> bool:
        """Whether the two agree to the last unit."""
        return self.expected == self.measured


class Errors(NamedTuple):
    """Errors over all rows with prediction and measurement, except `outside` rows beyond the fitted range."""

    median: float
    p90: float
    worst: Row
    rows: int
    outside: int = 0


class Comparison:
    """A record with its predictions, and every figure derived from the two."""

    def __init__(self, record: Record, stack: str | None = None, hardware: str | None = None) -> None:
        """`stack` is the software of predictions for other devices; None: the usual one of each. `hardware` is the
        device of which published kernels are shown; None: every device that has some.
        """
        self.stack, self.hardware = stack, hardware
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
        """Bytes of cache of one sequence of the trained context."""
        return kv_bytes(self.arch, seq=self.arch.max_positions, dtype=self.record.dtype)

    @property
    def free_bytes(self) -> int:
        """Memory of the device beside the weights; negative where they do not fit."""
        return self.record.environment.memory_bytes - self.weight_bytes

    @cached_property
    def kv_cells(self) -> tuple[CacheCell, ...]:
        """The cache under MHA, GQA and MQA for each length and batch shown on the page."""
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
        """Roofs raised by a measurement faster than every probe: one sentence per roof, with name and reason."""
        sentences = (raised_sentence(self.record, roof) for roof in self.record.roofs)
        return tuple(sentence for sentence in sentences if sentence)

    @cached_property
    def attention(self) -> tuple[AttentionRow, ...]:
        """The attention backends with their predictions."""
        backend = self.record.passes[0].attention if self.record.passes else ""
        return tuple(attention_row(self.basis, point, backend) for point in self.record.attention)

    def fits(self, seq: int) -> int:
        """The largest batch of `seq` tokens whose cache fits beside the weights; 0 where they do not fit."""
        memory_bytes, dtype = self.record.environment.memory_bytes, self.record.dtype
        try:
            return room_in(self.arch, memory_bytes, dtype=dtype).largest_batch(seq)
        except DoesNotFitError:
            return 0
