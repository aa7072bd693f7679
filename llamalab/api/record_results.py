"""A record of llamalab report as a result: the verdict, a row an operation, and the times of both passes."""

from llamalab.api.results import Result
from llamalab.cli.output import Answer, Column, Table
from llamalab.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.records.record import Record


def result_of_record(record: "Record") -> Result:
    """A record as a result: the verdict, a row an operation, and the times of both passes."""
    from llamalab.comparison.comparison import Comparison
    from llamalab.comparison.sentences import verdict

    comparison = Comparison(record)
    rows = [
        {"phase": row.phase, "op": row.op.name, "count": row.op.count, "measured_s": row.measured_s}
        | {"predicted_s": row.predicted_s, "error": row.error, "reason": row.reason, "basis": "measured"}
        for row in comparison.rows
    ]
    data: dict[str, Any] = {"model": record.model, "device": record.environment.device_name, "ops": rows}
    for phase in comparison.phases:
        data |= {
            f"{phase.run.phase}_s": phase.measured_s,
            f"{phase.run.phase}_predicted_s": phase.predicted_s,
            f"{phase.run.phase}_tokens_per_s": phase.measured_tokens_per_s,
        }
    shown = tuple(Column(key, key.replace("_", " ")) for key in ("phase", "op", "count"))
    timed = (
        Column("measured_s", "measured", _seconds),
        Column("predicted_s", "predicted", _seconds),
        Column("error", "error", "{:+.1%}".format),
    )
    answer = Answer(data, tuple(verdict(comparison).text.splitlines()), (Table((*shown, *timed), rows),))
    return Result("measure", answer, record)


def _seconds(value: float) -> str:
    from llamalab.units import format_seconds

    return format_seconds(value)
