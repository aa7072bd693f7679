"""Errors of each stack on what was fitted and on what was not; fails where a group gets worse.

    python -m experiments.scoreboard [--check | --accept "WHY" | --draw]

All runs of experiments/points.csv, by llamalab.comparison.scoring; errors that the fits did not see come from
experiments/held_out.csv, which experiments/fit_stacks.py writes.

agreed_errors.csv holds the MAPE that each group was accepted with. A group may get worse by ALLOWED points of MAPE;
beyond that --check fails until --accept writes its new MAPE with the reason into its line. --draw writes the
residuals of fitted points against batch, context and device to docs/accuracy-residuals.svg.
"""

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.left_out import scored_points, unseen
from experiments.common.residuals import draw
from llamalab.comparison import scoring
from llamalab.comparison.scoring import Scored

AGREED = Path(__file__).with_name("agreed_errors.csv")
ALLOWED = 1.0  # points of MAPE that a group may lose without a reason
GROUP = ("stack", "device", "phase", "width", "devices")


def groups_of(scored: Sequence[Scored]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Number and MAPE of every group, by its cells as text."""
    return {tuple(map(str, key)): scoring.summary(members) for key, members in scoring.grouped(scored).items()}


def agreed() -> dict[tuple[str, ...], tuple[float, str]]:
    """What each group was accepted with, and why where it got worse."""
    with open(AGREED, encoding="utf-8", newline="") as file:
        return {tuple(row[cell] for cell in GROUP): (float(row["mape"]), row["why"]) for row in csv.DictReader(file)}


def worsened(now: dict[tuple[str, ...], dict[str, Any]], then: dict[tuple[str, ...], tuple[float, str]]) -> list[str]:
    """Groups that got worse by more than is allowed, or that are no longer predicted."""
    found = []
    for key, (limit, _) in then.items():
        if key not in now:
            found.append(f"{' '.join(key)}: no longer predicted")
        elif now[key]["mape"] > limit + ALLOWED:
            found.append(f"{' '.join(key)}: {now[key]['mape']:.1f} %, agreed {limit:.1f} %")
    return found


def accept(now: dict[tuple[str, ...], dict[str, Any]], why: str) -> None:
    """Write today's errors as agreed; a group that got worse gets the reason, one that got better loses none."""
    then = agreed() if AGREED.exists() else {}
    with open(AGREED, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*GROUP, "n", "mape", "why"))
        for key, found in now.items():
            limit, before = then.get(key, (math.inf, ""))
            reason = why if found["mape"] > limit + ALLOWED else before
            writer.writerow((*key, found["n"], f"{found['mape']:.2f}", reason))


def main(argv: list[str]) -> int:
    """Check or accept the groups; the last line of output is the result as JSON. Exit code 1 where one got worse."""
    scored = scored_points()
    now = groups_of(scored)
    if "--accept" in argv:
        accept(now, argv[argv.index("--accept") + 1])
    if "--draw" in argv:
        draw(unseen(scored))
    found = worsened(now, agreed())
    for one in found:
        print(f"worse: {one}")
    every = scoring.summary(scored)
    print(json.dumps({"groups": len(now), "worse": len(found), "all": {k: round(v, 2) for k, v in every.items()}}))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
