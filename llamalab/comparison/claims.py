"""Which predictions held: a pass, the intervals, the peak of memory, the winner of two attention algorithms.

A pass holds where its measured time lies in the predicted interval, or within TOLERANCE where there is no interval.
Figures only; llamalab.comparison.sentences words them.
"""

from llamalab.comparison.attention_rows import AttentionRow
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Phase, relative_error
from llamalab.startup.hints import NamedTuple

ALLOWED_ERROR = 0.2  # relative error of a pass, or of a peak of memory, up to which it holds
COVERAGE = 0.9  # share of measurements expected in the interval of their prediction
FEW = 0.8  # below this share the intervals have failed
_SMALL_BYTES = 2**20  # smaller peaks are not judged


class Winner(NamedTuple):
    """The faster of naive and one flash backend at one length, as predicted and as measured."""

    tokens: int
    naive: AttentionRow
    flash: AttentionRow

    @property
    def predicted(self) -> str:
        """The backend that is predicted to be faster."""
        return _faster(self.naive, self.flash, self.naive.predicted_s, self.flash.predicted_s)

    @property
    def measured(self) -> str:
        """The backend that is faster."""
        return _faster(self.naive, self.flash, self.naive.measured_s, self.flash.measured_s)


class Coverage(NamedTuple):
    """Number of measurements with a predicted interval, and of those inside it."""

    inside: int
    of: int

    @property
    def held(self) -> bool:
        """Whether about the expected share lies inside."""
        return self.inside >= FEW * self.of


def phase_held(phase: Phase) -> bool | None:
    """Whether the prediction of a pass held; None where there is none."""
    if phase.error is None:
        return None
    interval = phase.interval_s
    return interval[0] <= phase.measured_s <= interval[1] if interval else abs(phase.error) <= ALLOWED_ERROR


def memory_held(phase: Phase) -> bool | None:
    """Whether the predicted peak of activations held; None where it was not measured."""
    measured, predicted = phase.run.memory.peak_bytes, phase.predicted_memory.bytes
    if measured is None:
        return None
    error = relative_error(predicted, measured)
    return max(measured, predicted) < _SMALL_BYTES or (error is not None and abs(error) <= ALLOWED_ERROR)


def coverage(comparison: Comparison) -> Coverage | None:
    """Coverage of single operations; None where the basis has no interval."""
    known = [row for row in comparison.rows if row.interval_s and row.measured_s and not row.outside]
    inside = sum(
        row.interval_s[0] <= row.measured_s <= row.interval_s[1] for row in known if row.interval_s and row.measured_s
    )
    return Coverage(inside, len(known)) if known else None


def wrong_winners(comparison: Comparison) -> list[Winner]:
    """Lengths at which the faster of naive and flash was predicted wrongly, shortest first."""
    return [one for one in _duels(comparison) if one.predicted != one.measured]


def _duels(comparison: Comparison) -> list[Winner]:
    whole = [row for row in comparison.attention if row.point.new_tokens == row.point.context_tokens]
    known = [row for row in whole if row.predicted_s is not None and row.measured_s is not None]
    naive = {row.point.new_tokens: row for row in known if row.point.algorithm == "naive"}
    return [
        Winner(row.point.new_tokens, naive[row.point.new_tokens], row)
        for row in sorted(known, key=lambda row: row.point.new_tokens)
        if row.point.algorithm != "naive" and row.point.new_tokens in naive
    ]


def _faster(naive: AttentionRow, flash: AttentionRow, naive_s: float | None, flash_s: float | None) -> str:
    assert naive_s is not None
    assert flash_s is not None
    return naive.point.backend if naive_s <= flash_s else flash.point.backend
