"""The built-in model and transformers beside a process that keeps one core busy.

    python -m experiments.neighbour [--layers 2] [--dtype bf16] [--rounds 5]

Blocks of 7B, some of them, with embedding and head; a prompt of 512 tokens, then steps of one. Each contestant runs in
a process of its own, one at a time, in turn: with nothing beside it, and while a process of numbers alone spins on the
last core that torch may use.
Predicted: the busy core gives half of itself. Work that is split into equal parts waits for the slower part, so with
every thread on a core of its own a pass takes twice as long; split anew as threads become free, it would take
cores / (cores - 1/2) times.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from experiments.common import results as answers
from experiments.common.contestants import entries
from experiments.common.race import Ratio, ratio
from experiments.common.sides import Side, ask, end, started
from llamalab.arch import LlamaArch
from llamalab.choices import PHASES
from llamalab.presets import PRESETS
from llamalab.startup.large_pages import ask_for_large_pages

QUESTION = "How much do the built-in model and transformers lose to a process that takes one core?"

ALONE, BESIDE = "alone", "beside"
BAR = 1.2  # times as long as transformers that ours may take in the same conditions
_SPELL_S = 0.005

Samples = dict[str, dict[str, dict[str, list[float]]]]  # seconds a token, by condition, contestant and phase


def spin(core: int, busy: Event, over: Event) -> None:
    """A process: keeps a core busy while `busy` is set, until it is `over`."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    while not over.is_set():
        if not busy.wait(0.2):
            continue
        until = time.perf_counter() + _SPELL_S
        while time.perf_counter() < until:
            pass


@contextmanager
def neighbour() -> Iterator[Event]:
    """The event that makes the neighbour busy; its process ends with the block."""
    context = get_context("spawn")
    busy, over = context.Event(), context.Event()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    process = context.Process(target=spin, args=(cores[-1], busy, over), daemon=True)
    process.start()
    try:
        yield busy
    finally:
        over.set()
        process.join(5)


def predict(threads: int) -> dict[str, float]:
    """How many times as long a pass takes with one core shared: work in equal parts, and work that is shared anew.

    >>> predict(2)
    {'equal parts': 2.0, 'shared anew': 1.3333333333333333}
    """
    return {"equal parts": 2.0, "shared anew": threads / (threads - 0.5)}


def turn_of(side: Side, phase: str) -> str:
    """What a contestant runs of a phase: the model as it is made ready; of transformers, as it comes."""
    names = (f"{phase}, ready", f"{phase}, sdpa attention, dynamic cache")
    return next(name for name in names if name in side.names)


def measure(arch: LlamaArch, dtype: str, rounds: int, folder: Path) -> Samples:
    """Every phase of both, alone and beside the neighbour, a round before the first not counted."""
    ours, *_, theirs = entries(dtype, ["llamalab", "transformers"])
    sides: dict[str, Side] = {}
    samples: Samples = {
        condition: {one.name: {phase: [] for phase in PHASES} for one in (ours, theirs)}
        for condition in (ALONE, BESIDE)
    }
    with neighbour() as busy:
        try:
            for entry in (ours, theirs):
                print(f"  building {entry.name}", file=sys.stderr)
                sides[entry.name] = started(entry, arch, dtype, folder)
            for turn in range(-1, rounds):
                print(f"  round {turn + 1} of {rounds}", file=sys.stderr)
                for condition in (ALONE, BESIDE) if turn % 2 else (BESIDE, ALONE):
                    (busy.set if condition == BESIDE else busy.clear)()
                    for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
                        for phase in PHASES:
                            seconds = ask(side, turn_of(side, phase))
                            if turn >= 0:
                                samples[condition][name][phase].append(seconds)
        finally:
            end(sides.values())
    return samples


def summary(samples: Samples) -> dict[str, Any]:
    """By phase: times beside the neighbour over times alone, and our time over that of transformers beside it."""
    ours, theirs = samples[ALONE]
    found: dict[str, Any] = {}
    for phase in PHASES:
        found[phase] = {
            "seconds": {c: {name: median(own[phase]) for name, own in rows.items()} for c, rows in samples.items()},
            "lost": {name: ratio(samples[BESIDE][name][phase], samples[ALONE][name][phase]) for name in (ours, theirs)},
            "ours_over_theirs": {c: ratio(rows[ours][phase], rows[theirs][phase]) for c, rows in samples.items()},
        }
    return found


def conclude(found: dict[str, Any], predicted: dict[str, float]) -> str:
    """What was found, in words."""
    sentences = []
    for phase, one in found.items():
        lost = ", ".join(f"{name} {Ratio(*own).words}" for name, own in one["lost"].items())
        beside, alone = (Ratio(*one["ours_over_theirs"][condition]).words for condition in (BESIDE, ALONE))
        sentences.append(
            f"{phase.capitalize()} beside a process that takes one core: times as long as alone: {lost} (predicted "
            f"{predicted['equal parts']:.2f} in equal parts, {predicted['shared anew']:.2f} shared anew); ours takes "
            f"{beside} times as long as transformers there, {alone} alone."
        )
    return " ".join(sentences)


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    ask_for_large_pages()
    arch = PRESETS["7b"].arch.replace(n_layers=args.layers)
    predicted = predict(torch.get_num_threads())
    with TemporaryDirectory(prefix="llamalab-neighbour-") as folder:
        samples = measure(arch, args.dtype, args.rounds, Path(folder))
    found = summary(samples)
    answers.finish(
        QUESTION,
        "neighbour",
        args.out,
        conclude(found, predicted),
        dtype=args.dtype,
        layers=args.layers,
        threads=torch.get_num_threads(),
        predicted=predicted,
        samples_s_per_token=samples,
        found=found,
    )


if __name__ == "__main__":
    main()
