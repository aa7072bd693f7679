"""The files of a report: the page, the record and the CSVs, written all or none.

The record alone is written first, as soon as it exists.
"""

import re
from collections.abc import Callable
from pathlib import Path

from llamalab.cli.output import keep
from llamalab.errors import InputError
from llamalab.files.outputs import check_targets, write_texts
from llamalab.startup.hints import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from llamalab.records.record import Record

FOLDER = "reports"
CHECKOUT_RECORDS = Path("experiments") / "records"  # in a checkout; installed, the package has them
BENCHMARKS = Path(".benchmarks")
OUR_RECORD = '"environment": {\n  "llamalab":'  # marks a record of ours among JSON files
T = TypeVar("T")


def keep_record(record: "Record", page: Path) -> Path | None:
    """Write a record to its place beside the page, or to a fallback place; None where only stdout took it."""
    from llamalab.records.record_json import record_to_json

    return keep(page.with_suffix(".json"), record_to_json(record), ours=OUR_RECORD)


def write_report(
    record: "Record", page: Path, stack: str | None = None, hardware: str | None = None
) -> tuple[int, list[str]]:
    """Write the page, the record and the CSVs; nothing where one of the existing files is not ours.

    Returns the bytes of the page, and remarks on other runs that could not be shown.
    """
    from llamalab.records.record_json import record_to_json
    from llamalab.report import csv_files

    html, remarks = _drawn(record, stack, hardware)
    texts = {page.with_suffix(f".{name}.csv"): text for name, text in csv_files(record, stack, hardware).items()}
    write_files(texts | {page.with_suffix(".json"): record_to_json(record)}, page, html)
    return len(html.encode()), remarks


def _drawn(record: "Record", stack: str | None, hardware: str | None) -> tuple[str, list[str]]:
    """The page, with other people's measurements as far as they can be read and drawn."""
    from llamalab.report import render
    from llamalab.report.experiment_results import recorded_results
    from llamalab.report.recorded_runs import PACKAGED, recorded_runs
    from llamalab.report.trend import stored_runs

    remarks: list[str] = []

    def found(what: str, read: Callable[[], list[T]]) -> list[T]:
        try:
            return read()
        except Exception as error:
            remarks.append(f"{what} are left out of the page ({type(error).__name__}: {error})")
            return []

    folder = CHECKOUT_RECORDS if CHECKOUT_RECORDS.is_dir() else PACKAGED
    recorded = found("recorded runs", lambda: recorded_runs(folder, accelerators=True, on_broken=remarks.append))
    beside = (
        [one for one in recorded if one != record],
        found("answers of experiments", lambda: recorded_results(folder, on_broken=remarks.append)),
        found("stored benchmarks", lambda: stored_runs(BENCHMARKS)),
    )
    try:
        return render(record, *beside, stack=stack, hardware=hardware), remarks
    except Exception as error:
        # A failure to draw other people's measurements must not prevent the page of this run.
        if not any(beside):
            raise
        html = render(record, stack=stack, hardware=hardware)
        return html, [*remarks, f"other runs are left out of the page ({type(error).__name__}: {error})"]


def write_files(texts: dict[Path, str], page: Path, html: str) -> None:
    """All files or none."""
    marks = _targets(page)
    files = texts | {page: html}
    write_texts(files, ours={path: marks[path] for path in files})


def check_page(page: Path, beside: tuple[Path, ...] | None = None) -> None:
    """Refuse before any work outputs that could not be written after it: the page and its files."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out must end in .html; got {str(page)!r}; the record and the CSVs are named after it")
    marks = _targets(page)
    check_targets({path: mark for path, mark in marks.items() if beside is None or path in (page, *beside)})


def default_page(model: str, device: str) -> Path:
    """The default path of a model's page: a plain name, whatever the model's name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[:100] or "model"
    return Path(FOLDER) / f"{stem}-{device}.html"


def _targets(page: Path) -> dict[Path, str]:
    """Every file of a report, and the mark by which an existing one is ours."""
    from llamalab.report import CSV_HEADS, OURS

    tables = {page.with_suffix(f".{name}.csv"): head for name, head in CSV_HEADS.items()}
    return tables | {page.with_suffix(".json"): OUR_RECORD, page: OURS}
