"""The working tree against another revision: both are measured now, on this machine, in turns.

    python -m tools.speedgate.ab [--base REV|auto] [--quick] [--runs N] [--save FILE]

The table's times are in units of each benchmark's reference, so they compare across machines of a kind. Exit code 1
where a benchmark is slower, 0 where none is, 2 for a base that git does not know, 130 after Ctrl-C. Without a base, or
with one that the harness cannot run, what was measured is recorded and passes.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from llamalab.files.outputs import write_text
from tools.speedgate import baseline
from tools.speedgate.benchmarks import BENCHMARKS
from tools.speedgate.decision import MOST_SETS, THRESHOLD, Decision
from tools.speedgate.differences import text_table
from tools.speedgate.lockstep import QUICK, Plan, Run, measure
from tools.speedgate.revisions import AUTO, find_base, worktree
from tools.speedgate.verdicts import HEAD, exit_code, judge, unclear, usable

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(".benchmarks") / "ratios"
Say = Callable[[str], None]
Measure = Callable[[dict[str, Path], Sequence[str], Plan, Say], dict[str, list[Run]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and say with the exit code whether it passes."""
    parser = argparse.ArgumentParser(description="time this working tree against another revision of it")
    parser.add_argument("--base", default=AUTO, metavar="REV", help="default: where this branch left the main one")
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds, for every push")
    parser.add_argument("--runs", type=int, default=Plan().runs, metavar="N", help="fresh processes of each tree")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the ratios of every run as JSON")
    args = parser.parse_args(arguments)
    commit = find_base(ROOT, args.base)
    if commit is None and args.base != AUTO:
        note(f"--base must be a revision that git knows here; got {args.base!r}; try HEAD~1")
        return 2
    # A cancelled job must leave no worktree behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        found = runs(commit, (QUICK if args.quick else Plan())._replace(runs=args.runs))
    except KeyboardInterrupt:
        note("interrupted; nothing is left behind")
        return 130
    if args.save:
        save(found, args.save)
    return compare(found, commit, print) | known_machine(found["head"], print)


def runs(commit: str | None, plan: Plan) -> dict[str, list[Run]]:
    """The runs of the working tree, and of `commit` where git can check it out."""
    with ExitStack() as stack:
        trees = {}
        if commit is not None:
            try:
                trees["base"] = stack.enter_context(worktree(ROOT, commit))
            except OSError as error:
                note(str(error))
        return measured_until_clear(trees | {"head": ROOT}, plan, measure)


def measured_until_clear(trees: dict[str, Path], plan: Plan, measure: Measure) -> dict[str, list[Run]]:
    """The runs of `plan`, and as many again of what they leave unclear, up to MOST_SETS times as many."""
    found = measure(trees, list(BENCHMARKS), plan, note)
    for _ in range(MOST_SETS - 1):
        benchmarks = unclear(found["base"], found["head"]) if "base" in found else []
        if not benchmarks:
            break
        note(f"the runs disagree on {', '.join(benchmarks)}: {plan.runs} more")
        for tree, more in measure(trees, benchmarks, plan, note).items():
            found[tree] = found[tree] + more
    return found


def compare(found: dict[str, list[Run]], commit: str | None, say: Say) -> int:
    """Print the table of base and head; 1 where one is slower."""
    if commit is None or "base" not in found:
        say("no base to compare with (no history here, or a shallow clone): recorded, nothing compared")
        found = found | {"base": [dict.fromkeys(BENCHMARKS, "there is none")]}
    verdicts = judge(found["base"], found["head"])
    say(f"base {(commit or 'none')[:12]} against the working tree; times in units of the reference of each run")
    say(text_table(HEAD, [verdict.cells for verdict in verdicts]))
    for verdict in verdicts:
        if verdict.why:
            say(verdict.why)
    say(f"SLOWER: by more than {THRESHOLD:.0%} in all but the best runs, by the median and by a low percentile")
    return exit_code(verdicts)


def save(found: dict[str, list[Run]], path: Path) -> None:
    """Keep what decisions are made from: {"machine": ..., "runs": {tree: {benchmark: [[median, low], ...]}}}."""
    kept = {"machine": baseline.machine_key(), "runs": {tree: usable(measured) for tree, measured in found.items()}}
    write_text(path, json.dumps(kept) + "\n")


def known_machine(head: Sequence[Run], say: Say) -> int:
    """Compare with the ratios committed for machines like this one; 1 where one is far slower."""
    key, measured = baseline.machine_key(), usable(head)
    folder = baseline.FOLDER if os.environ.get("LLAMALAB_OVERWRITE") else ROOT / RECORDED
    path = baseline.write(folder, key, measured).relative_to(ROOT)
    known = baseline.read(baseline.FOLDER, key)
    if known is None:
        say(f"no ratios are committed for {key}: recorded in {path}; LLAMALAB_OVERWRITE=1 make bench-ab keeps them")
        return 0
    decisions = baseline.against(known, measured)
    slow = {benchmark: decision for benchmark, decision in decisions.items() if decision.fails}
    say(f"against the ratios committed for {key}: {len(decisions)} compared, {len(slow)} slower")
    for benchmark, decision in slow.items():
        say(_far_slower(benchmark, decision))
    return int(bool(slow))


def _far_slower(benchmark: str, decision: Decision) -> str:
    by = f"{decision.slower_median:+.0%} and {decision.slower_low:+.0%}"
    return f"{benchmark}: {by}, more than {baseline.THRESHOLD:.0%}; to accept: LLAMALAB_OVERWRITE=1 make bench-ab"


def note(text: str) -> None:
    """Say what is going on, apart from the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
