"""Changes in the wall times of the benchmarks, from the files that `make bench` stores in .benchmarks.

Wall times depend on the machine and its other load: they are shown, and no test rests on them. Only runs on the machine
of the last one are compared.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from llamalab.errors import LlamaLabError
from llamalab.files.inputs import MOST_BYTES, read_object
from llamalab.report.charts.trend import trend
from llamalab.report.data_table import DataTable, number, seconds, text
from llamalab.report.layout import Section, figure

PATTERN = "*/[0-9][0-9][0-9][0-9]_*.json"  # the file names of pytest-benchmark
SHOWN_RUNS = 30
NOTEWORTHY = 0.1


class StoredRun(NamedTuple):
    """One run of all benchmarks: revision, time, machine, and the median of each in seconds."""

    number: str
    commit: str
    made_on: str
    machine: str
    medians_s: dict[str, float]


def stored_runs(folder: Path) -> list[StoredRun]:
    """The runs under a folder, oldest first; none where it is absent. Other files are skipped."""
    found = [_read(path) for path in folder.glob(PATTERN) if path.is_file()]
    return sorted((run for run in found if run), key=lambda run: (run.made_on, run.number))


def of_last_machine(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The last few runs on the machine of the last one."""
    return [run for run in runs if run.machine == runs[-1].machine][-SHOWN_RUNS:]


def trend_sections(runs: Sequence[StoredRun]) -> list[Section]:
    """The section of the report; none without a stored run."""
    if not runs:
        return []
    shown = of_last_machine(runs)
    drawn = figure(trend, series(shown), "trend-plot", None, trend_table(shown))
    left_out = len(runs) - len(shown)
    others = (f"{left_out} older runs, or runs on other machines, are left out.",) if left_out else ()
    return [
        Section(
            anchor="trend",
            short="Trend",
            heading="Wall times of the benchmarks",
            finding=trend_finding(shown),
            board=(drawn,),
            remarks=others,
        )
    ]


def series(runs: Sequence[StoredRun]) -> dict[str, list[float | None]]:
    """Medians of every benchmark of the last run, run by run; None where a run lacks it.

    >>> series([StoredRun("0001", "a", "d1", "m", {"x": 1.0}), StoredRun("0002", "b", "d2", "m", {"x": 2.0, "y": 3.0})])
    {'x': [1.0, 2.0], 'y': [None, 3.0]}
    """
    return {name: [run.medians_s.get(name) for run in runs] for name in sorted(runs[-1].medians_s)}


def trend_table(runs: Sequence[StoredRun]) -> DataTable:
    """Every benchmark's first and last median, the run before the last, and the changes between them."""
    rows = []
    for name, medians in series(runs).items():
        known = [median for median in medians if median is not None]
        before = known[-2] if len(known) > 1 else None
        rows.append(
            {
                "benchmark": name,
                "runs": len(known),
                "first_s": known[0],
                "before_s": before,
                "last_s": known[-1],
                "since_before": known[-1] / before - 1 if before else None,
                "since_first": known[-1] / known[0] - 1,
            }
        )
    columns = (
        text("benchmark"),
        number("runs", "runs"),
        seconds("first_s", "first"),
        seconds("before_s", "one before"),
        seconds("last_s", "last"),
        number("since_before", "since the one before", _signed),
        number("since_first", "since the first", _signed),
    )
    return DataTable("trend", "Median wall times of the benchmarks, first and last run", columns, rows)


def trend_finding(runs: Sequence[StoredRun]) -> str:
    """The number of benchmarks that changed since the first run, with the largest change."""
    first, last = runs[0], runs[-1]
    where = f"on {last.machine}"
    if len(runs) == 1:
        return f"One run is stored ({last.commit}, {last.made_on[:10]}), {where}; a trend begins with the second."
    moved = [row for row in trend_table(runs).rows if abs(row["since_first"]) > NOTEWORTHY]
    moved.sort(key=lambda row: -abs(row["since_first"]))
    moves = f"{len(moved)} of {len(last.medians_s)} medians moved by more than {NOTEWORTHY:.0%}"
    farthest = f", {moved[0]['benchmark']} the farthest ({_signed(moved[0]['since_first'])})" if moved else ""
    span = f"{len(runs)} runs, {first.made_on[:10]} to {last.made_on[:10]} ({first.commit} to {last.commit}), {where}"
    return f"{moves}{farthest}: {span}. Wall times show a trend and decide nothing."


def _read(path: Path) -> StoredRun | None:
    """A stored run; None for a truncated file or another tool's."""
    try:
        data = read_object(path, "stored run", most=MOST_BYTES)
        commit, machine = data["commit_info"], data["machine_info"]
        name = f"{machine['cpu'].get('brand_raw', machine['machine'])}, torch {machine.get('torch', 'unknown')}"
        medians_s = {benchmark_name(one["fullname"]): float(one["stats"]["median"]) for one in data["benchmarks"]}
        if not all(0 < median < float("inf") for median in medians_s.values()):
            return None  # charts and ratios need positive times
        return StoredRun(
            number=path.name[:4],
            commit=str(commit.get("id", "unknown"))[:7] + ("+" if commit.get("dirty") else ""),
            made_on=str(data["datetime"]),
            machine=f"{name}, Python {machine['python_version']}",
            medians_s=medians_s,
        )
    except (LlamaLabError, ValueError, KeyError, TypeError, AttributeError):
        return None


def benchmark_name(fullname: str) -> str:
    """A benchmark's name without folders and common parts.

    >>> benchmark_name("tests/benchmarks/test_model.py::test_decode_step[1]")
    'model: decode_step[1]'
    """
    path, _, name = fullname.partition("::")
    return f"{Path(path).stem.removeprefix('test_')}: {name.removeprefix('test_')}"


def _signed(value: float) -> str:
    return f"{value:+.0%}"
