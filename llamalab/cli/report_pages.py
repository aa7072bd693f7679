"""Pages of `llamalab report`, with the verdict printed: of a record, profiles, a bench or a training run."""

import argparse
from pathlib import Path

from llamalab.analytic import grades
from llamalab.cli.output import Answer, Column, Table, answer_text, note, option_of
from llamalab.cli.report_files import check_page, default_page, write_files, write_report
from llamalab.errors import LlamaLabError, UnavailableError
from llamalab.formatting import format_bytes
from llamalab.plain_text import printable
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from llamalab.records.record import Record


def _print(args: argparse.Namespace, answer: Answer) -> None:
    """Print the first lines of an answer, or all of it, by --format."""
    shown = "\n".join(map(printable, answer.lead)) if args.format == "table" else answer_text(answer, args.format)
    print(shown, flush=True)


def show_record(record: "Record", args: argparse.Namespace) -> int:
    """The page and the CSVs of a record; the verdict, remarks and the page's path are printed."""
    from llamalab.cli.report_answer import report_answer

    page = Path(args.out or default_page(record.model, record.environment.device))
    size, remarks = write_report(record, page, args.stack, args.hardware)
    _print(args, report_answer(record))
    for remark in (*record.notes, *_uncalibrated(record), *remarks, f"the page is {page} ({format_bytes(size)})"):
        note(remark)
    return 0


def show_kept(record: "Record", args: argparse.Namespace, kept: Path | None) -> int:
    """As show_record; after an error the record remains, and the message says how to render it."""
    try:
        return show_record(record, args)
    except Exception as error:
        again = f"the record is kept: render again with llamalab report --from {kept}" if kept else "see the record"
        cause = (
            error.spelled(option_of)
            if isinstance(error, LlamaLabError)
            else str(error)
            if isinstance(error, OSError)
            else f"{type(error).__name__}: {error}"
        )
        raise UnavailableError(f"the page must be drawn from what was measured; {cause}; {again}") from error


def show_profiles(args: argparse.Namespace, text: str) -> int:
    """The page and the CSVs of profiles; their JSON file is unchanged."""
    from llamalab.cli.profile_output import profile_answer
    from llamalab.records.profile import profiles_from_json
    from llamalab.report import profile_csv_files, render_profiles
    from llamalab.report.profile_captions import largest_parts

    profiles = profiles_from_json(text, source=args.record)
    page = Path(args.out or default_page(f"{profiles[0].model}-profile", profiles[0].environment.device))
    texts = {page.with_suffix(f".{name}.csv"): csv for name, csv in profile_csv_files(profiles).items()}
    check_page(page, tuple(texts))
    html = render_profiles(profiles)
    write_files(texts, page, html)
    lead = [
        f"{one.model}, {one.kind}, {phase.phase}: {largest_parts(phase)}" for one in profiles for phase in one.phases
    ]
    answer = profile_answer(profiles)
    _print(args, Answer(answer.data, tuple(lead), answer.tables))
    for remark in (remark for profile in profiles for remark in profile.notes):
        note(remark)
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def show_bench(args: argparse.Namespace, text: str) -> int:
    """The page of a bench; its JSON stays as it is."""
    from llamalab.report import render_bench
    from llamalab.report.bench_page import bench_table, rows_of_bench

    rows = rows_of_bench(text, source=args.record)
    page = Path(args.out or default_page(f"{rows[0]['model']}-bench", rows[0].get("backend") or "cpu"))
    check_page(page, ())
    html = render_bench(rows)
    write_files({}, page, html)
    lead = tuple("  ".join(row[:5]) for row in bench_table(rows).shown)
    _print(args, Answer({"rows": rows}, lead, (Table(tuple(Column(key, key) for key in rows[0]), rows),)))
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def show_training(args: argparse.Namespace, text: str) -> int:
    """The page of a training run; its JSON stays as it is."""
    from llamalab.report import render_training
    from llamalab.report.training_page import against, training_run

    run = training_run(text, source=args.record)
    page = Path(args.out or default_page(f"{run['model']}-training", "cpu"))
    check_page(page, ())
    html = render_training(run)
    write_files({}, page, html)
    found = against(run)
    lead = tuple("  ".join(row) for row in found.shown)
    _print(args, Answer(dict(run), lead, (Table(tuple(Column(key, key) for key in found.rows[0]), found.rows),)))
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def _uncalibrated(record: "Record") -> tuple[str, ...]:
    if record.constants is not None:
        grade = grades.read_grade(record.constants.get("grade"))
        words = f"predictions rest on a calibration graded {grade.words}; run llamalab calibrate on a quiet machine"
        return (words,) if grade.name == "poor" else ()
    return ("predictions rest on roofs alone, which leave out the time of a call; llamalab calibrate adds it",)
