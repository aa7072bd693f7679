"""A report as an answer: the verdict, a row for each operation, and the times of both passes."""

from llamalab.cli.output import Answer, Column, Table
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import verdict
from llamalab.formatting import format_seconds
from llamalab.records.record import Record
from llamalab.startup.hints import Any

_COLUMNS = (
    *(Column(key, key) for key in ("phase", "op", "count")),
    Column("measured_s", "measured", format_seconds),
    Column("predicted_s", "predicted", format_seconds),
    Column("error", "error", "{:+.1%}".format),
)


def report_answer(record: Record) -> Answer:
    """The output of llamalab report with --format, and the result of llamalab.measure."""
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
    return Answer(data, tuple(verdict(comparison).text.splitlines()), (Table(_COLUMNS, rows),))
