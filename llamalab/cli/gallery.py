"""`llamalab gallery`: the errors of the predictions over all records of a folder, as one page."""

import argparse
from pathlib import Path

from llamalab.cli.output import note
from llamalab.errors import MissingError
from llamalab.plain_text import printable

SUMMARY = "errors of the predictions over all records of a folder, as one page"
EXAMPLES = ("llamalab gallery reports", "llamalab gallery experiments/records --out build/gallery.html")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab gallery`."""
    parser.add_argument("folder", metavar="FOLDER", help="where records lie, at any depth")
    parser.add_argument(
        "--out", metavar="PATH", default="reports/gallery.html", help="the HTML file (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Read all records, write the page, print a line for each pass."""
    if not Path(args.folder).is_dir():
        raise MissingError(f"the folder of records must exist; there is no folder {args.folder}; check the path")
    from llamalab.files.outputs import check_targets, write_texts
    from llamalab.report import OURS, render_gallery
    from llamalab.report.gallery import errors_table, records_under

    folder, page = Path(args.folder), Path(args.out)
    check_targets({page: OURS})
    records = records_under(folder, on_broken=note)
    if not records:
        raise MissingError(f"{args.folder} must be a folder with records that llamalab report wrote; it holds none")
    write_texts({page: render_gallery(records)}, ours={page: OURS})
    table = errors_table(records)
    wanted = ("record", "phase", "predicted_s", "measured_s", "error")
    places = [place for place, column in enumerate(table.ordered) if column.key in wanted]
    for row in table.shown:
        print(printable("  ".join(row[place] for place in places)), flush=True)
    note(f"the page is {page}")
    return 0
