"""The section on several ranks: predicted against measured, rank by rank, and the effect of other splits."""

from typing import Any

from llamalab.comparison.ranks import RanksPhase, ranks_phases
from llamalab.comparison.wording import signed_percent
from llamalab.formatting import format_seconds
from llamalab.records.record import Record
from llamalab.report.charts.scaling import ScalingCurve, scaling
from llamalab.report.data_table import DataTable, error, number, seconds, text
from llamalab.report.layout import Section, figure

SCALING = "The same pass over ranks, each with what one rank has here"


def ranks_tables(record: Record) -> dict[str, DataTable]:
    """The tables of the section by name; none where one process ran alone."""
    phases = ranks_phases(record)
    made = (_passes(phases), _by_rank(phases), _scaling(phases)) if phases else ()
    return {table.name: table for table in made}


def ranks_sections(record: Record, made: dict[str, DataTable]) -> list[Section]:
    """The section, where several ranks ran."""
    phases = ranks_phases(record)
    if not phases or record.ranks is None:
        return []
    sentences = " ".join(_sentence(phase) for phase in phases)
    where = f"{record.ranks.ranks} ranks over {record.ranks.backend}, {record.ranks.threads_per_rank} threads each"
    curves = [ScalingCurve(phase.run.phase.capitalize(), phase.scaling) for phase in phases]
    board = (made["ranks"], made["by_rank"], figure(scaling, curves, "scaling", None, made["scaling"]))
    return [
        Section(
            anchor="ranks",
            short="Ranks",
            heading="Several ranks",
            finding=f"{where}. {sentences}",
            board=board,
            remarks=tuple(_remarks(phases)),
        )
    ]


def _passes(phases: tuple[RanksPhase, ...]) -> DataTable:
    rows: list[dict[str, Any]] = []
    for phase in phases:
        gains = phase.gains
        rows.append(
            {
                "phase": phase.run.phase,
                "ranks": phase.run.ranks,
                "batch": phase.run.batch,
                "new_tokens": phase.run.new_tokens,
                "blocks": phase.run.layers_measured,
                "predicted_s": phase.predicted_s,
                "measured_s": phase.measured_s,
                "error": phase.error,
                "communication_s": gains and gains.communication_s,
                "sequence_parallel_saves_s": gains and gains.sequence_parallel_saves_s,
                "overlap_saves_s": gains and gains.overlap_saves_s,
                "collectives": sum(phase.run.collectives.values()),
                "collectives_expected": sum(phase.run.collectives_expected.values()),
            }
        )
    columns = (
        text("phase"),
        number("ranks", "ranks"),
        number("batch", "batch"),
        number("new_tokens", "tokens"),
        number("blocks", "blocks"),
        seconds("predicted_s", "predicted"),
        seconds("measured_s", "measured"),
        error("error"),
        seconds("communication_s", "collectives, predicted"),
        seconds("sequence_parallel_saves_s", "sequence parallelism would save"),
        seconds("overlap_saves_s", "overlap would save at most"),
        number("collectives", "collectives"),
        number("collectives_expected", "in the op table"),
    )
    return DataTable("ranks", "Passes on several ranks", columns, rows)


def _by_rank(phases: tuple[RanksPhase, ...]) -> DataTable:
    rows = []
    for phase in phases:
        split = phase.predicted_split
        times = [(str(one.rank), "measured", one) for one in phase.run.by_rank]
        times += [] if split is None else [("each", "predicted", split)]
        rows += [
            {"phase": phase.run.phase, "rank": rank, "basis": basis, "compute_s": one.compute_s}
            | {"communication_s": one.communication_s, "waiting_s": one.waiting_s}
            for rank, basis, one in times
        ]
    columns = (
        text("phase"),
        text("rank"),
        seconds("compute_s", "own work"),
        seconds("communication_s", "sending"),
        seconds("waiting_s", "waiting for others"),
        text("basis"),
    )
    return DataTable("by_rank", "Where the time of each rank goes", columns, rows)


def _scaling(phases: tuple[RanksPhase, ...]) -> DataTable:
    rows = [{"phase": phase.run.phase, **point._asdict()} for phase in phases for point in phase.scaling]
    columns = (
        text("phase"),
        number("ranks", "ranks"),
        seconds("predicted_s", "predicted"),
        seconds("measured_s", "measured"),
        seconds("sequence_parallel_s", "with sequence parallelism"),
        seconds("overlap_s", "with overlap at best"),
    )
    return DataTable("scaling", SCALING, columns, rows)


def _sentence(phase: RanksPhase) -> str:
    measured = f"{phase.run.phase} took {format_seconds(phase.measured_s)}".capitalize()
    if phase.predicted_s is None or phase.error is None:
        lacking = ", ".join(phase.lacking)
        return (
            f"{measured}; not predicted, as the calibration of the ranks found no kernel of {lacking}: "
            f"llamalab calibrate --ranks {phase.run.ranks} takes more time and memory for it."
        )
    low, high = phase.interval_s or (phase.predicted_s, phase.predicted_s)
    interval = "" if low == high else f" ({format_seconds(low)} to {format_seconds(high)})"
    predicted = f"{format_seconds(phase.predicted_s)}{interval}"
    return f"{measured}, predicted {predicted}, error {signed_percent(phase.error)}."


def _remarks(phases: tuple[RanksPhase, ...]) -> list[str]:
    return [
        f"The collectives of {phase.run.phase} are not those of the op table: {phase.run.collectives} ran, "
        f"{phase.run.collectives_expected} were expected."
        for phase in phases
        if not phase.counted_as_expected
    ]
