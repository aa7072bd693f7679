"""What is said about two sets of runs: a row for every subject, and whether any of them fails."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from tools.speedgate.decision import THRESHOLD, Ratios, decide, ratios
from tools.speedgate.lockstep import Run, Samples

HEAD = ("benchmark", "base", "head", "runs", "by median", "by low", "verdict")


class Verdict(NamedTuple):
    """A row of the table, whether it fails or needs more runs, and the sentence below it where there is one."""

    cells: tuple[str, ...]
    fails: bool = False
    unclear: bool = False
    why: str = ""


def judge(base: Sequence[Run], head: Sequence[Run], *, threshold: float = THRESHOLD) -> list[Verdict]:
    """The verdict on every subject of the head."""
    return [_judge(subject, base, head, threshold) for subject in head[0]]


def unclear(base: Sequence[Run], head: Sequence[Run]) -> list[str]:
    """The subjects on which more runs must decide."""
    return [verdict.cells[0] for verdict in judge(base, head) if verdict.unclear]


def usable(runs: Sequence[Run]) -> dict[str, list[Ratios]]:
    """The ratios of every run of a subject, for subjects that each of its runs measured."""
    found: dict[str, list[Ratios]] = {}
    for subject in runs[0]:
        outcomes = [run[subject] for run in runs if subject in run]
        if all(isinstance(outcome, Samples) for outcome in outcomes):
            found[subject] = [ratios(*outcome) for outcome in outcomes]
    return found


def _judge(subject: str, base: Sequence[Run], head: Sequence[Run], threshold: float) -> Verdict:
    new = usable(head).get(subject)
    if new is None:
        why = f"{subject}: this tree cannot run it: {reason(head, subject)}"
        return Verdict((subject, "", "–", "", "", "", "FAILS"), fails=True, why=why)
    took = f"{_middle(new):.3f}"
    old = usable(base).get(subject)
    if old is None:
        why = f"{subject}: recorded, not compared: the base cannot run it: {reason(base, subject)}"
        return Verdict((subject, "–", took, str(len(new)), "", "", "passes"), why=why)
    decision = decide(old, new, threshold=threshold)
    slower = [f"{value:+.1%}" for value in (decision.slower_median, decision.slower_low)]
    said = "SLOWER" if decision.fails else "passes, unclear" if decision.unclear else "passes"
    cells = (subject, f"{_middle(old):.3f}", took, str(len(new)), *slower, said)
    return Verdict(cells, decision.fails, decision.unclear)


def reason(runs: Sequence[Run], subject: str) -> str:
    """Why a subject has no samples; empty where it has."""
    outcomes = (run.get(subject) for run in runs)
    return next((outcome for outcome in outcomes if isinstance(outcome, str)), "")


def _middle(measured: Sequence[Ratios]) -> float:
    return median(run.median for run in measured)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 where all pass, 1 where one fails."""
    return int(any(verdict.fails for verdict in verdicts))
