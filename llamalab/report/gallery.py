"""The page over several records: the errors of all predictions in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import error_sentence
from llamalab.comparison.wording import machine, signed_percent, title
from llamalab.records.record import Record
from llamalab.report.bounded import fill_bounded
from llamalab.report.charts.gallery import errors_plot
from llamalab.report.data_table import DataTable, error, seconds, share, text
from llamalab.report.layout import Card, Figure, Listing, PageContent, Section, figure, plain_json
from llamalab.report.recorded_runs import OnBroken, each_read, read_record

_CLOSING = "An error is predicted / measured − 1: positive where the prediction was too slow."


class NamedRecord(NamedTuple):
    """A record and its name on the page."""

    name: str
    record: Record


def records_under(folder: Path, *, on_broken: OnBroken = None) -> list[NamedRecord]:
    """All records under a folder at any depth, by path; other JSON files are skipped, with `on_broken` called."""
    paths = sorted(path for path in folder.rglob("*.json") if path.is_file())
    found = each_read(paths, lambda path: (path, read_record(path)), on_broken)
    return [
        NamedRecord(str(path.relative_to(folder).with_suffix("")), record)
        for path, record in found
        if record is not None and record.passes
    ]


def gallery_page(records: Sequence[NamedRecord], generator: str) -> str:
    """The errors of the predictions of all records, the worst first."""
    table = errors_table(records)
    worst = sorted(table.rows, key=lambda row: -abs(row["error"] or 0.0))
    known = [abs(row["error"]) for row in table.rows if row["error"] is not None]
    machines = list(dict.fromkeys(machine(one.record.environment) for one in records))
    many = "" if len(machines) == 1 else "s"
    within = sum(one <= 0.1 for one in known)
    return fill_bounded(
        _content(
            generator,
            f"{len(records)} records",
            "errors of predictions",
            f"{len(known)} passes on {len(machines)} machine{many} have a prediction; {within} of them are within 10%.",
            [
                Card(
                    row["record"],
                    signed_percent(row["error"]),
                    "",
                    (f"{row['phase']} of {row['model']}", row["machine"]),
                )
                for row in worst[:4]
                if row["error"] is not None
            ],
            (
                Listing(
                    "Single operations", [f"{one.name}: {error_sentence(Comparison(one.record))}" for one in records]
                ),
            ),
            [
                Section(
                    "errors",
                    "Errors",
                    "Errors of whole passes",
                    "Dots are passes; the band is 20% to either side.",
                    (_errors_figure(table, known), table),
                )
            ],
            records,
            (table,),
        )
    )


def _errors_figure(table: DataTable, known: Sequence[float]) -> Figure:
    return figure(errors_plot, table.rows, "errors-plot", None if known else "no pass has a prediction")


def errors_table(records: Sequence[NamedRecord]) -> DataTable:
    """One row a pass: predicted and measured seconds, and the error of single operations beside it."""
    rows = []
    for one in records:
        comparison = Comparison(one.record)
        found = comparison.errors
        rows += [
            {
                "record": one.name,
                "machine": machine(one.record.environment),
                "model": title(comparison),
                "dtype": one.record.dtype,
                "phase": phase.run.phase,
                "predicted_s": phase.predicted_s,
                "measured_s": phase.measured_s,
                "error": phase.error,
                "median_op_error": found.median if found else None,
                "basis": comparison.basis.words,
            }
            for phase in comparison.phases
        ]
    columns = (
        text("record"),
        text("machine"),
        text("model", main=False),
        text("dtype", main=False),
        text("phase"),
        seconds("predicted_s", "predicted"),
        seconds("measured_s", "measured"),
        error(),
        share("median_op_error", "median of its operations"),
        text("basis", main=False),
    )
    return DataTable("errors", "Errors of the predictions of whole passes", columns, rows)


def _content(
    generator: str,
    name: str,
    purpose: str,
    headline: str,
    cards: list[Card],
    listings: tuple[Listing, ...],
    sections: list[Section],
    records: Sequence[NamedRecord],
    tables: Sequence[DataTable],
) -> PageContent:
    """A page over records, which are named in it and not embedded: each has a page of its own."""
    facts = [
        (
            one.name,
            f"{title(Comparison(one.record))}, {one.record.dtype}, {one.record.environment.device_name}, "
            f"torch {one.record.environment.torch}, {one.record.environment.started_at}",
        )
        for one in records
    ]
    return PageContent(
        generator=generator,
        title=name,
        machine="",
        dtype="",
        purpose=purpose,
        headline=headline,
        cards=cards,
        listings=listings,
        sections=sections,
        facts=facts,
        closing=_CLOSING,
        record_json=Markup(plain_json([one.name for one in records])),
        tables=tables,
    )
