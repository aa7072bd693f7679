"""All records of this machine that a report can show, in one run of a few minutes.

    python -m experiments.campaign [--device auto|cpu|cuda] [--budget 570] [--models 7b,70b] [--only STEP,STEP] [--list]

Steps run in the order of their worth, each in a process of its own, and each leaves one file under
experiments/records/<machine>/ as soon as it is done. A step whose file was made by the same code on the same
machine is not run again without --again; one that would not fit into what is left of the budget is left out; one
that fails does not stop the others. The last lines name every file with its key figures, and on a GPU the goals
(campaign_goals) with what was measured.
"""

import argparse
import hashlib
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

import llamalab
from experiments.common.campaign_goals import reached
from experiments.common.campaign_makers import Job, Made
from experiments.common.campaign_steps import Step, all_steps, default_models
from experiments.common.folders import RECORDS
from experiments.common.isolated import Outcome, run_isolated
from llamalab.errors import LlamaLabError, UnknownNameError
from llamalab.files.outputs import check_target, write_text
from llamalab.measure.device.machine import device_name, resolve_device
from llamalab.presets import resolve_model

MANIFEST = "campaign.json"
_MARK = '"campaign"'
_PATIENCE, _GRACE_S = 4.0, 30.0  # a step may take so many times its estimate, and end so late after the budget
_MOST_LINES = 16  # of a step's table: all of them together must fit on a few pages
Run = Callable[[Callable[[], object], float], Outcome]


class Result(NamedTuple):
    """A step that was taken up: `state` is done, kept, failed, left out or interrupted."""

    step: Step
    state: str
    seconds: float = 0.0
    about: str = ""


class Kept(NamedTuple):
    """What is known of the files in a folder: by whom each was made, in which time and with which figures."""

    path: Path
    made: dict[str, dict[str, Any]]

    def has(self, step: Step, stamp: dict[str, str]) -> bool:
        """Whether the step's file is there and of the same code and machine."""
        entry = self.made.get(step.name, {})
        return entry.get("by") == stamp and (self.path.parent / step.file).is_file()

    def add(self, step: Step, stamp: dict[str, str], seconds: float, figures: str) -> None:
        """Note a file that was made, and write the notes."""
        self.made[step.name] = {"file": step.file, "by": stamp, "seconds": round(seconds, 1), "figures": figures}
        write_text(self.path, json.dumps({"campaign": self.made}, indent=1) + "\n", ours=_MARK)


def read_kept(folder: Path) -> Kept:
    """The notes of a folder; none where there are none, or where they cannot be read."""
    path = folder / MANIFEST
    try:
        made = json.loads(path.read_text(encoding="utf-8"))["campaign"]
        return Kept(path, made if isinstance(made, dict) else {})
    except (OSError, ValueError, KeyError, TypeError):
        return Kept(path, {})


def machine_folder(device: torch.device) -> str:
    """The name of a machine's folder: its GPU, or its CPU with the number of threads."""
    name = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return name if device.type == "cuda" else f"cpu-{name}-{torch.get_num_threads()}-threads"


def stamp_of(device: torch.device) -> dict[str, str]:
    """What must be the same for a record to be as good as a new one: code, torch and device."""
    root, digest = Path(llamalab.__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(path for part in ("llamalab", "experiments") for path in (root / part).rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return {
        "llamalab": llamalab.__version__,
        "source": digest.hexdigest()[:16],
        "torch": torch.__version__,
        "device": device_name(device),
    }


class MachineFacts(NamedTuple):
    """What a campaign must know of a machine: torch's name and kind of the device, its folder and its stamp."""

    device: str
    kind: str
    folder: str
    stamp: dict[str, str]


def machine_of(name: str) -> MachineFacts:
    """The facts of the device that `resolve_device` finds under that name; raises what it raises."""
    place = resolve_device(name)
    return MachineFacts(str(place), place.type, machine_folder(place), stamp_of(place))


def run_steps(
    steps: Sequence[Step],
    job: Job,
    stamp: dict[str, str],
    *,
    budget_s: float,
    again: bool = False,
    run: Run = run_isolated,
    now: Callable[[], float] = time.monotonic,
) -> list[Result]:
    """Take up every step in order; after a Ctrl-C what was done is returned, and the step that it ended."""
    began, kept, results = now(), read_kept(job.folder), []
    for number, step in enumerate(steps, 1):
        left_s = budget_s - (now() - began)
        if not again and kept.has(step, stamp):
            results.append(Result(step, "kept", about=str(kept.made[step.name]["figures"])))
            continue
        if step.estimate_s > left_s:
            about = f"takes about {step.estimate_s:.0f} s; {max(0.0, left_s):.0f} s were left"
            results.append(Result(step, "left out", about=about))
            continue
        _tell(f"[{number}/{len(steps)}] {step.name}: about {step.estimate_s:.0f} s of {left_s:.0f} s left")
        try:
            results.append(_take(step, job, stamp, kept, left_s, run, now))
        except KeyboardInterrupt:
            results.append(Result(step, "interrupted"))
            break
    return results


def _take(
    step: Step, job: Job, stamp: dict[str, str], kept: Kept, left_s: float, run: Run, now: Callable[[], float]
) -> Result:
    began = now()
    outcome = run(partial(step.make, job), min(_PATIENCE * step.estimate_s, left_s) + _GRACE_S)
    seconds = now() - began
    if outcome.error is not None:
        _tell(f"{step.name} failed: {outcome.error}\n{outcome.trace}")
        return Result(step, "failed", seconds, outcome.error)
    made: Made = outcome.value
    kept.add(step, stamp, seconds, made.figures)
    print(f"\n{step.name} -> {step.file}, {seconds:.1f} s")
    for line in shortened(made.lines):
        print(f"  {line}")
    sys.stdout.flush()
    return Result(step, "done", seconds, made.figures)


def shortened(lines: Sequence[str]) -> list[str]:
    """At most so many lines, with a word on those left out.

    >>> shortened([str(number) for number in range(20)])[-1]
    '(5 more in the file)'
    """
    if len(lines) <= _MOST_LINES:
        return list(lines)
    return [*lines[: _MOST_LINES - 1], f"({len(lines) - _MOST_LINES + 1} more in the file)"]


def summary(results: Sequence[Result], total_s: float) -> list[str]:
    """A line per step: made, failed or left out."""
    lines = [f"{len([one for one in results if one.state == 'done'])} records made in {total_s:.0f} s"]
    for one in results:
        shown = one.about if len(one.about) <= 400 else one.about[:397] + "..."
        lines.append(f"{one.state:11} {one.seconds:6.1f} s  {one.step.file:28} {shown}")
    return lines


def chosen(steps: Sequence[Step], only: str | None) -> list[Step]:
    """The named steps in the order of the campaign; all where none is named. Raises UnknownNameError."""
    if only is None:
        return list(steps)
    names = {name.strip() for name in only.split(",")}
    known = [step.name for step in steps]
    for name in sorted(names):
        if name not in known:
            raise UnknownNameError("step", name, known)
    return [step for step in steps if step.name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--budget", type=float, default=570.0, metavar="SECONDS", help="(default: 570)")
    parser.add_argument("--models", help="presets with commas (default: 7b,13b,70b; on a CPU tiny,7b)")
    parser.add_argument("--only", metavar="STEP,STEP", help="these steps alone; --list names them")
    parser.add_argument("--again", action="store_true", help="run steps whose files are up to date")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    parser.add_argument(
        "--out", type=Path, default=RECORDS, metavar="FOLDER", help="where the machine's folder is made"
    )
    return parser


def main(argv: Sequence[str] | None = None, run: Run = run_isolated) -> int:
    """Run the steps and print what came of them; 1 where one failed, 130 after a Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        # Elsewhere: a process that has asked a GPU holds memory of it for as long as it lives.
        asked = run(partial(machine_of, args.device), _GRACE_S + 30)
        if asked.error is not None:
            _tell(asked.error)
            return 3
        machine: MachineFacts = asked.value
        models = args.models.split(",") if args.models else list(default_models(machine.kind))
        for name in models:
            resolve_model(name)
        steps = chosen(all_steps(machine.kind, models), args.only)
        folder = args.out / machine.folder
        check_target(folder / MANIFEST, ours=_MARK)
    except LlamaLabError as error:
        _tell(str(error))
        return error.exit_code
    if args.list:
        for step in steps:
            print(f"{step.name:24} {step.estimate_s:5.0f} s  {step.file:28} {step.about}")
        return 0
    began, job = time.monotonic(), Job(folder, machine.device, tuple(models))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a machine that is taken back: as Ctrl-C
    try:
        results = run_steps(steps, job, machine.stamp, budget_s=args.budget, again=args.again, run=run)
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"\n{machine.folder}: " + "\n".join(summary(results, time.monotonic() - began)), flush=True)
    if machine.kind == "cuda":
        print("\n".join(one.line for one in reached(folder)), flush=True)
    states = {one.state for one in results}
    return 130 if "interrupted" in states else int("failed" in states)


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
