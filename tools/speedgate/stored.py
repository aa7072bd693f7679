"""Two stored runs of `make bench` side by side: a table of their medians; it never fails.

python -m tools.speedgate.stored [OLD [NEW]]      numbers as in .benchmarks; default: the last two runs
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from llamalab.formatting import format_seconds
from llamalab.report.trend import StoredRun, stored_runs
from tools.speedgate.differences import ABSENT, text_table

FOLDER = Path(__file__).resolve().parents[2] / ".benchmarks"  # of the checkout, where make bench leaves its runs
HEAD = ("benchmark", "old", "new", "change")


def main(arguments: Sequence[str] | None = None, *, folder: Path = FOLDER) -> int:
    """Print the table, or why there is none."""
    parser = argparse.ArgumentParser(description="compare two stored runs of the benchmarks")
    parser.add_argument("runs", nargs="*", metavar="NUMBER", help="of a stored run, as 0003 (default: the last two)")
    wanted = parser.parse_args(arguments).runs
    stored = stored_runs(folder)
    chosen = [run for number in wanted for run in stored if int(run.number) == int(number)] if wanted else stored[-2:]
    if len(chosen) == 1 and len(wanted) == 1:
        chosen.append(stored[-1])
    if len(chosen) != 2:
        known = ", ".join(run.number for run in stored) or "none"
        print(f"two stored runs are needed; here are {known}; make bench stores one")
        return 0
    print(compared(*chosen))
    return 0


def compared(old: StoredRun, new: StoredRun) -> str:
    """The two runs' medians side by side, what only one has too."""
    rows = []
    for name in sorted(old.medians_s | new.medians_s):
        pair = old.medians_s.get(name), new.medians_s.get(name)
        cells = [ABSENT if median is None else format_seconds(median) for median in pair]
        change = f"{pair[1] / pair[0] - 1:+.1%}" if pair[0] and pair[1] else ""
        rows.append((name, *cells, change))
    lines = [
        f"{what} {run.number}: {run.commit}, {run.made_on[:19]}, {run.machine}"
        for what, run in (("old", old), ("new", new))
    ]
    if old.machine != new.machine:
        lines.append("two machines: the changes say more about them than about the revisions")
    return "\n".join([*lines, text_table(HEAD, rows), "median wall times; nothing is decided by them"])


if __name__ == "__main__":
    sys.exit(main())
