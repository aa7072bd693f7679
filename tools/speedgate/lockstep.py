"""Timing two revisions so that the machine treats them alike: each in a process of its own, in turns.

One run is one fresh process per revision. They take turns of a few rounds, in alternating order, so that both see the
same neighbours, clock and heat; memory is laid out anew in every run.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

HARNESS = Path(__file__).resolve().parents[1]  # where the package `speedgate` lies
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    # glibc gives large blocks back and gets them anew, page by page, unless it is told to keep them
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
PATIENCE_S = 300.0
Progress = Callable[[str], None]


class Plan(NamedTuple):
    """How much to measure: `runs` fresh processes per tree, `turns` of `rounds` rounds for every benchmark in each."""

    runs: int = 3
    turns: int = 40
    rounds: int = 10


QUICK = Plan(turns=10)


class Samples(NamedTuple):
    """CPU nanoseconds of one benchmark in one process, and of its reference in the same rounds."""

    reference_ns: list[int]
    benchmark_ns: list[int]


Outcome = Samples | str  # or why there are no samples
Run = dict[str, Outcome]


class Worker:
    """A process that times pieces of the llamalab of `tree`; a context manager that ends it."""

    def __init__(self, tree: Path) -> None:
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed in __exit__
        path = os.pathsep.join([str(tree), str(HARNESS)])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "speedgate.worker"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": path},
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def ask(self, benchmark: str, rounds: int) -> Outcome:
        """Samples of some rounds, or why there are none."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        alarm = Timer(PATIENCE_S, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            stdin.write(json.dumps({"benchmark": benchmark, "rounds": rounds}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        answer: dict[str, Any] = json.loads(line) if line else {"missing": self._last_words()}
        return answer["missing"] if "missing" in answer else Samples(**answer)

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().split("\n")
        return next((line for line in reversed(lines) if line.strip()), "the process ended without a word")


def measure(
    trees: Mapping[str, Path], benchmarks: Sequence[str], plan: Plan, progress: Progress
) -> dict[str, list[Run]]:
    """The runs of every tree, in lockstep."""
    found: dict[str, list[Run]] = {name: [] for name in trees}
    for number in range(plan.runs):
        progress(f"run {number + 1} of {plan.runs}")
        for name, run in _one_run(trees, benchmarks, plan).items():
            found[name].append(run)
    return found


def _one_run(trees: Mapping[str, Path], benchmarks: Sequence[str], plan: Plan) -> dict[str, Run]:
    with _workers(trees) as workers:
        measured = {benchmark: _in_turns(workers, benchmark, plan) for benchmark in benchmarks}
    return {name: {benchmark: found[name] for benchmark, found in measured.items()} for name in trees}


@contextmanager
def _workers(trees: Mapping[str, Path]) -> Iterator[dict[str, Worker]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Worker(tree)) for name, tree in trees.items()}


def _in_turns(workers: Mapping[str, Worker], benchmark: str, plan: Plan) -> dict[str, Outcome]:
    """What every worker measured of one benchmark; one that cannot run it is not asked again."""
    found: dict[str, Outcome] = {name: Samples([], []) for name in workers}
    for turn in range(plan.turns):
        for name in workers if turn % 2 == 0 else reversed(list(workers)):
            so_far = found[name]
            if isinstance(so_far, Samples):
                more = workers[name].ask(benchmark, plan.rounds)
                found[name] = more if isinstance(more, str) else Samples(*map(list.__add__, so_far, more))
    return found
