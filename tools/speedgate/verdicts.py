"""What is said about two sets of runs: a row for every benchmark, and whether any of them fails."""

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
    """The verdict on every benchmark of the head."""
    return [_judge(benchmark, base, head, threshold) for benchmark in head[0]]


def unclear(base: Sequence[Run], head: Sequence[Run]) -> list[str]:
    """The benchmarks on which more runs must decide."""
    return [verdict.cells[0] for verdict in judge(base, head) if verdict.unclear]


def usable(runs: Sequence[Run]) -> dict[str, list[Ratios]]:
    """The ratios of every run of a benchmark, for benchmarks that each of its runs measured."""
    found: dict[str, list[Ratios]] = {}
    for benchmark in runs[0]:
        outcomes = [run[benchmark] for run in runs if benchmark in run]
        if all(isinstance(outcome, Samples) for outcome in outcomes):
            found[benchmark] = [ratios(*outcome) for outcome in outcomes]
    return found


def _judge(benchmark: str, base: Sequence[Run], head: Sequence[Run], threshold: float) -> Verdict:
    new = usable(head).get(benchmark)
    if new is None:
        why = f"{benchmark}: this tree cannot run it: {reason(head, benchmark)}"
        return Verdict((benchmark, "", "–", "", "", "", "FAILS"), fails=True, why=why)
    took = f"{_middle(new):.3f}"
    old = usable(base).get(benchmark)
    if old is None:
        why = f"{benchmark}: recorded, not compared: the base cannot run it: {reason(base, benchmark)}"
        return Verdict((benchmark, "–", took, str(len(new)), "", "", "passes"), why=why)
    decision = decide(old, new, threshold=threshold)
    slower = [f"{value:+.1%}" for value in (decision.slower_median, decision.slower_low)]
    said = "SLOWER" if decision.fails else "passes, unclear" if decision.unclear else "passes"
    cells = (benchmark, f"{_middle(old):.3f}", took, str(len(new)), *slower, said)
    return Verdict(cells, decision.fails, decision.unclear)


def reason(runs: Sequence[Run], benchmark: str) -> str:
    """Why a benchmark has no samples; empty where it has."""
    outcomes = (run.get(benchmark) for run in runs)
    return next((outcome for outcome in outcomes if isinstance(outcome, str)), "")


def _middle(measured: Sequence[Ratios]) -> float:
    return median(run.median for run in measured)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 where all pass, 1 where one fails."""
    return int(any(verdict.fails for verdict in verdicts))
