"""The appendix: results of experiments and runs recorded on other machines, this machine's own first."""

import re
from collections.abc import Sequence

from llamalab.records.record import Record
from llamalab.report import prospects
from llamalab.report.charts.experiment_results import CHARTS
from llamalab.report.experiment_results import ExperimentResult
from llamalab.report.layout import Figure, Fold, Section, figure
from llamalab.report.settings import HERE


def appendix(record: Record, results: Sequence[ExperimentResult], recorded: Sequence[Record]) -> list[Section]:
    """One section, folded; none where nothing was recorded."""
    device = record.environment.device_name
    ordered = sorted(results, key=lambda result: result.device != device)
    folds = [_experiment(result, device, f"plot-{place}") for place, result in enumerate(ordered)]
    if recorded:
        table, finding = prospects.recorded(recorded), prospects.recorded_finding(recorded)
        names = ", ".join(dict.fromkeys(one.environment.device_name for one in recorded))
        folds.append(Fold("recorded", "Runs recorded on other devices", finding, (), (table,), badge=names))
    if not folds:
        return []
    here = sum(result.device == device for result in results)
    finding = (
        f"{len(results)} experiments, {here} of them on this kind of machine ({device})"
        if results
        else "Runs of other machines"
    )
    return [
        Section(
            "appendix",
            "Appendix",
            "Appendix: experiments and other machines",
            f"{finding}. None of it was measured in this run; a badge names the machine.",
            folds=tuple(folds),
        )
    ]


def _experiment(result: ExperimentResult, device: str, plot: str) -> Fold:
    """Question, conclusion and plot; its short prefix is part of every id in the SVG."""
    badge = f"{HERE}'s kind: {result.device}" if result.device == device else result.device
    anchor = re.sub(r"[^a-z0-9]+", "-", f"{result.experiment} {result.device}".lower()).strip("-")
    return Fold(
        anchor=f"experiment-{anchor}",
        title=result.question,
        finding=result.conclusion,
        figures=_plots(result, plot),
        tables=(),
        remarks=(result.origin,),
        badge=badge,
    )


def _plots(result: ExperimentResult, anchor: str) -> tuple[Figure, ...]:
    """The plot of an experiment; some have words only."""
    chart = CHARTS.get(result.experiment)
    return (figure(chart, result, anchor),) if chart else ()
