"""Passes on several ranks with their prediction, and predicted times of more ranks and of other splits."""

from functools import cached_property
from statistics import median

from llamalab.analytic.calibration_files import parsed_constants
from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.op import Op
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.rank_costs import RankCosts
from llamalab.analytic.rank_gains import RankGains, rank_gains
from llamalab.analytic.rate_constants import Constants
from llamalab.analytic.roofline import Prediction, known_rates, predict_op
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.records.ranks import RanksPass, RankTime
from llamalab.records.record import Record
from llamalab.startup.hints import Any, NamedTuple

_MOST_RANKS = 8


class ScalingPoint(NamedTuple):
    """A pass of all blocks on so many ranks: predicted, measured where it ran, and predicted under other splits.

    `sequence_parallel_s` and `overlap_s` are the least predicted times with these.
    """

    ranks: int
    predicted_s: float | None
    measured_s: float | None
    sequence_parallel_s: float | None = None
    overlap_s: float | None = None


class RanksPhase:
    """A pass on several ranks, of the blocks that ran, with its prediction from the constants of one of the ranks."""

    def __init__(self, record: Record, run: RanksPass) -> None:
        self.record, self.run = record, run
        self.arch: LlamaArch = record.llama_arch.replace(n_layers=run.layers_measured)

    @property
    def measured_s(self) -> float:
        """Median of the slowest rank's passes."""
        return median(self.run.passes_s)

    @cached_property
    def predicted_s(self) -> float | None:
        """Seconds on all ranks; None where a class has no constants."""
        return self._total_s(self.run.ranks)

    @cached_property
    def predicted_split(self) -> RankTime | None:
        """Predicted own work, sending and waiting of a rank; None where a class has no constants."""
        return self._split(self.run.ranks)

    @cached_property
    def interval_s(self) -> tuple[float, float] | None:
        """Low and high end of the predicted seconds; None without a prediction."""
        found = self._predicted(self.run.ranks)
        if found is None or self._constants is None or self.predicted_s is None:
            return None
        low, high = self._constants.interval(self.predicted_s, sum(op.count * one.bound_s for op, one in found))
        return None if high is None else (low, high)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The classes of its operations without constants, for which the pass is not predicted."""
        rates = {} if self._constants is None else self._constants.rates
        return tuple(sorted({op.rate_class for op in self._ops(self.run.ranks) if known_rates(op, rates) is None}))

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1."""
        return None if self.predicted_s is None else self.predicted_s / self.measured_s - 1

    @cached_property
    def gains(self) -> RankGains | None:
        """Seconds that sequence parallelism and overlap would save at best; None without a prediction."""
        return self._gains(self.run.ranks)

    @property
    def counted_as_expected(self) -> bool:
        """Whether the collectives that ran equal those of the op table."""
        return self.run.collectives == self.run.collectives_expected

    @cached_property
    def scaling(self) -> tuple[ScalingPoint, ...]:
        """1, 2, 4 and 8 ranks, where they divide the model; each with the processors and links of one rank here.

        For one rank the measurement is the record's own pass of the phase, if it has the same tokens and blocks, and
        the prediction is from the constants of a single process; the others are from those of ranks side by side.
        """
        points = []
        ranks = 1
        while ranks <= _MOST_RANKS:
            try:
                points.append(self._point(ranks))
            except InputError:
                break
            ranks *= 2
        return tuple(points)

    def _point(self, ranks: int) -> ScalingPoint:
        predicted_s, gains = self._total_s(ranks), self._gains(ranks) if ranks > 1 else None
        if predicted_s is None or gains is None:
            return ScalingPoint(ranks, predicted_s, self._measured_s(ranks))
        saved = gains.sequence_parallel_saves_s, gains.overlap_saves_s
        return ScalingPoint(ranks, predicted_s, self._measured_s(ranks), *(predicted_s - one for one in saved))

    def _measured_s(self, ranks: int) -> float | None:
        if ranks == 1:
            return self._alone_s
        own = [self.run, *(self.record.ranks.fewer if self.record.ranks else ())]
        found = [one for one in own if (one.ranks, one.phase) == (ranks, self.run.phase)]
        return median(found[0].passes_s) if found else None

    @property
    def _alone_s(self) -> float | None:
        for one in self.record.passes:
            same = all(
                getattr(one, name) == getattr(self.run, name)
                for name in ("phase", "batch", "new_tokens", "context_tokens", "layers_measured", "kv_dtype")
            )
            if same and one.whole_s:
                return median(one.whole_s)
        return None

    @cached_property
    def _constants(self) -> Constants | None:
        return self._constants_in(None if self.record.ranks is None else self.record.ranks.constants)

    @cached_property
    def _constants_alone(self) -> Constants | None:
        return self._constants_in(self.record.constants) or self._constants

    def _constants_in(self, data: dict[str, Any] | None) -> Constants | None:
        return None if data is None else parsed_constants(data, "the record's constants", self.record.dtype)

    def _gains(self, ranks: int) -> RankGains | None:
        found = self._predicted(ranks)
        return None if found is None else rank_gains([(op, one.time_s) for op, one in found], ranks)

    def _ops(self, ranks: int) -> tuple[Op, ...]:
        shape = PassShape(
            new_tokens=self.run.new_tokens,
            context_tokens=self.run.context_tokens,
            batch=self.run.batch,
            dtype=self.record.dtype,
            kv_dtype=self.run.kv_dtype,
            attention=self.run.attention,
            tensor_parallel=ranks,
        )
        return model_ops(self.arch, shape, self.record.kept)

    def _predicted(self, ranks: int) -> list[tuple[Op, Prediction]] | None:
        constants = self._constants if ranks > 1 else self._constants_alone
        if constants is None:
            return None
        found = []
        for op in self._ops(ranks):
            rates = known_rates(op, constants.rates)
            if rates is None:
                return None
            found.append((op, predict_op(op, rates)))
        return found

    def _split(self, ranks: int) -> RankTime | None:
        found = self._predicted(ranks)
        if found is None:
            return None
        communication_s = sum(op.count * one.time_s for op, one in found if op.kind == "collective")
        rows_s = sum(op.count * one.time_s for op, one in found) - communication_s
        collectives = sum(op.count for op, _ in found if op.kind == "collective")
        data = None if self.record.ranks is None or ranks == 1 else self.record.ranks.constants
        costs = RankCosts.of(data)
        own_s = costs.own_s(rows_s, collectives)
        return RankTime(rank=0, compute_s=own_s, communication_s=communication_s, waiting_s=costs.waiting_s(own_s))

    def _total_s(self, ranks: int) -> float | None:
        found = self._split(ranks)
        return None if found is None else found.compute_s + found.communication_s + found.waiting_s


def ranks_phases(record: Record) -> tuple[RanksPhase, ...]:
    """The passes of several ranks; empty where there was one."""
    return () if record.ranks is None else tuple(RanksPhase(record, one) for one in record.ranks.passes)
