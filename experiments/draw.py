"""Draw and quote what experiments recorded: an SVG for each answer that has a chart, from its JSON alone.

    python -m experiments.draw [RECORD.json ...] [--to docs/images/experiments]

Nothing is measured. Without names it draws every record of experiments/records/, which are the pictures of the course
and of the docs, and writes the quotes of README and docs/speed.md anew.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.common.folders import RECORDS
from experiments.quotes import write_pages
from llamalab.errors import LlamaLabError
from llamalab.files.outputs import write_text
from llamalab.report.charts.experiment_results import CHARTS
from llamalab.report.drawing import drawing
from llamalab.report.experiment_results import read_result, recorded_results

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images" / "experiments"
OURS = 'role="img"'


def draw(records: Sequence[Path], folder: Path) -> list[Path]:
    """One SVG a record that has a chart, named after its experiment; where they are."""
    results = [read_result(path) for path in records] if records else recorded_results(RECORDS)
    written = []
    for result in results:
        if chart := CHARTS.get(result.experiment):
            path = folder / f"{result.experiment}.svg"
            write_text(path, drawing(chart, result), ours=OURS)
            written.append(path)
    return written


def main(argv: Sequence[str] | None = None) -> None:
    """Draw and name the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="*", type=Path, metavar="RECORD.json")
    parser.add_argument("--to", type=Path, default=PICTURES, metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        for path in draw(args.records, args.to):
            print(f"wrote {path}")
        for page in [] if args.records else write_pages():
            print(f"wrote {page}")
    except LlamaLabError as error:
        sys.exit(f"draw: {error}")


if __name__ == "__main__":
    main()
