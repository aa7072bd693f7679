"""The page of a comparison: the output of `llamalab compare` with charts of the differences."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from llamalab.comparison.ranks import ScalingPoint
from llamalab.formatting import format_seconds
from llamalab.report.bounded import fill_bounded
from llamalab.report.charts.deltas import deltas, signed_seconds
from llamalab.report.charts.scaling import ScalingCurve, scaling
from llamalab.report.data_table import DataColumn, DataTable, error, number, seconds, share, speed, text
from llamalab.report.layout import Card, Figure, Fold, Listing, PageContent, Section, figure, plain_json

_CLOSING = (
    "Differences are of the other run less A; shares are of all that changed in a phase. Intervals are bootstrapped "
    "from the samples where both runs have them. An error is predicted / measured − 1."
)


def compare_page(data: dict[str, Any], generator: str) -> str:
    """The page of the data that `llamalab compare --format json` prints; they are embedded in it."""
    compared, measured = data["comparisons"], _measured(data["rows"])
    tables = [table for one in compared for table in _tables(one)]
    names = [f"{run['run']}: {run['name']} ({run['tool']})" for run in data["runs"]]
    return fill_bounded(
        PageContent(
            generator=generator,
            title="Runs compared",
            machine="",
            dtype="",
            purpose=" and ".join(run["run"] for run in data["runs"]),
            headline=f"{'; '.join(names)}.",
            cards=[_card(one, phase) for one in compared for phase in one["phases"]],
            listings=(Listing("What differs", [line for one in compared for line in _differences(one)]),),
            sections=[
                *(_section(one) for one in compared),
                *_over_ranks(data),
                Section("runs", "Runs", "Every phase of every run", "Our prediction stands beside it.", (measured,)),
            ],
            facts=[(f"Run {run['run']}", _settings(run)) for run in data["runs"]],
            closing=_CLOSING,
            record_json=Markup(plain_json(data)),
            tables=[measured, *tables],
        )
    )


def _card(one: Mapping[str, Any], phase: Mapping[str, Any]) -> Card:
    value, unit = format_seconds(phase["b_s"]).split(" ")
    details = (f"A takes {format_seconds(phase['a_s'])}", phase["verdict"], phase["why"])
    return Card(f"{one['letter']}, {phase['phase']}", value, unit, tuple(filter(None, details)))


def _differences(one: Mapping[str, Any]) -> list[str]:
    differing = [f"{key}: {ours} in A, {other} in {one['letter']}." for key, (ours, other) in one["settings"].items()]
    alone = [f"{name} is not in both A and {one['letter']}." for name in one["unmatched"]]
    return [*differing, *alone]


def _section(one: Mapping[str, Any]) -> Section:
    """One run against the first."""
    drawn = [phase for phase in one["phases"] if phase["ops"]]
    letter = one["letter"].lower()
    missing = None if drawn else "neither run tells of single operations"
    plot: Figure = figure(deltas, drawn, f"deltas-{letter}", missing)
    finding = " ".join(
        f"{phase['phase'].capitalize()} takes {format_seconds(phase['b_s'])} where A takes "
        f"{format_seconds(phase['a_s'])}: {phase['verdict']}."
        for phase in one["phases"]
    )
    heading = f"{one['letter']} against A"
    folds = tuple(
        Fold(table.name.replace("_", "-"), f"Data: {table.caption}", tables=(table,)) for table in _tables(one)
    )
    return Section(f"run-{letter}", heading, heading, finding, (plot,), folds=folds)


def _over_ranks(data: Mapping[str, Any]) -> list[Section]:
    """The time of each phase over the ranks; none where no model ran on several numbers of them."""
    ranks = {run["run"]: run["settings"].get("ranks") for run in data["runs"]}
    points: dict[str, dict[int, ScalingPoint]] = {}
    if len({run["model"] for run in data["runs"]}) == 1:
        for row in data["rows"]:
            if (number_of := ranks[row["run"]]) is not None:
                point = ScalingPoint(number_of, row["predicted_s"], row["time_s"])
                points.setdefault(row["phase"], {}).setdefault(number_of, point)
    curves = [
        ScalingCurve(phase, tuple(by_ranks[one] for one in sorted(by_ranks)))
        for phase, by_ranks in points.items()
        if len(by_ranks) > 1
    ]
    if not curves:
        return []
    finding = "The same test on several numbers of ranks; of runs that share one, the first."
    return [Section("ranks", "Ranks", "Time over ranks", finding, (figure(scaling, curves, "scaling"),))]


def _tables(one: Mapping[str, Any]) -> list[DataTable]:
    """The differences in each phase with operations in both runs."""
    columns = (
        text("op", "operation"),
        seconds("a_s", "A"),
        seconds("b_s", one["letter"]),
        DataColumn("delta_s", "difference", signed_seconds),
        DataColumn("low_s", "from", signed_seconds, main=False),
        DataColumn("high_s", "to", signed_seconds, main=False),
        share("share", "of what changed"),
        text("why", "why"),
    )
    return [
        DataTable(
            f"{one['letter']}_{phase['phase']}".lower(),
            f"{phase['phase'].capitalize()}, {one['letter']} against A",
            columns,
            [{column.key: row[column.key] for column in columns} for row in phase["ops"]],
        )
        for phase in one["phases"]
        if phase["ops"]
    ]


def _measured(rows: Sequence[Mapping[str, Any]]) -> DataTable:
    columns = (
        text("run"),
        text("phase"),
        seconds("time_s", "time"),
        seconds("predicted_s", "predicted beside"),
        error("error"),
        speed("tokens_per_s", "tok/s"),
        number("batch", "batch"),
        number("new_tokens", "new tokens", main=False),
        number("context_tokens", "context", main=False),
        text("basis"),
        text("predicted_from", "predicted from", main=False),
    )
    return DataTable(
        "runs", "Runs, phase by phase", columns, [{one.key: row[one.key] for one in columns} for row in rows]
    )


def _settings(run: Mapping[str, Any]) -> str:
    named = {"model": run["model"], "device": run["device"]} | run["settings"]
    return ", ".join(f"{key} {value}" for key, value in named.items() if value is not None)
