"""The key figures of a report: speed of both phases, the largest error, the largest batch."""

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Phase
from llamalab.comparison.wording import blocks as blocks_run
from llamalab.comparison.wording import short, signed_percent, tokens_per_s
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.report.layout import Card


def cards(comparison: Comparison) -> list[Card]:
    """The key figures, in reading order."""
    seq, fits = comparison.arch.max_positions, comparison.fits(comparison.arch.max_positions)
    weights, cache = format_bytes(comparison.weight_bytes), format_bytes(comparison.kv_bytes_per_sequence)
    return [
        *(_speed(phase) for phase in comparison.phases),
        *_largest_error(comparison),
        Card(
            "Largest batch",
            f"{fits:,}",
            f"× {seq:,} tokens",
            (
                f"weights {weights}, KV cache {cache} a sequence, "
                f"{format_bytes(comparison.kv_bytes_per_token)} a token",
                f"in {format_bytes(comparison.record.environment.memory_bytes)}",
            ),
            state="" if fits else "bad",
        ),
    ]


def _speed(phase: Phase) -> Card:
    value, unit = tokens_per_s(phase.measured_tokens_per_s).split(" ")
    if phase.predicted_tokens_per_s is None or phase.error is None:
        details: tuple[str, ...] = (phase.reason or "not predicted",)
    else:
        details = (
            f"predicted {tokens_per_s(phase.predicted_tokens_per_s)}, error in time {signed_percent(phase.error)}",
            _limit(phase),
        )
    tag = f"extrapolated from {blocks_run(phase)}" if phase.run.basis == "extrapolated" else ""
    return Card(f"{phase.run.phase.capitalize()}, measured", value, unit, details, tag)


def _limit(phase: Phase) -> str:
    limit = phase.limit
    if limit is None or limit.fraction is None:
        return f"{limit.name}-bound" if limit else "of unknown bound"
    unit = "FLOP/s" if limit.name == "compute" else "B/s"
    reached, roof = format_si(limit.rate or 0.0, unit), format_si(limit.roof or 0.0, unit)
    return f"{limit.name}-bound at {limit.fraction:.0%} of the measured roof ({reached} of {roof})"


def _largest_error(comparison: Comparison) -> list[Card]:
    errors = comparison.errors
    if errors is None:
        return []
    worst_row = errors.worst
    phase = next(phase for phase in comparison.phases if phase.run.phase == worst_row.phase)
    share = phase.share_of(worst_row)
    return [
        Card(
            "Largest error",
            signed_percent(worst_row.error or 0.0),
            "",
            (
                f"{short(worst_row.op.name)} in {worst_row.phase}, {share or 0.0:.1%} of its time",
                f"predicted {format_seconds(worst_row.predicted_s or 0.0)}, measured "
                f"{format_seconds(worst_row.measured_s or 0.0)}; half of all within {errors.median:.0%}",
            ),
        )
    ]
