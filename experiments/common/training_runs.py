"""What the experiments on choices of training share: a small model, a real text, runs over seeds, a verdict.

The text is what stories260K writes (llamalab.train.corpus), kept in the folder of --corpus. Every variant has a
process and one thread of its own, two at a time; times are the thread's own: what else runs does not count.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import isfinite
from pathlib import Path
from statistics import mean
from time import thread_time
from typing import Any, NamedTuple

import torch
from torch import nn

from experiments.common import results as answers
from experiments.common.isolated import run_isolated
from llamalab import LlamaArch, build, load
from llamalab.cli.progress import Progress
from llamalab.errors import UnavailableError
from llamalab.model import Transformer
from llamalab.text import Tokenizer, load_tokenizer
from llamalab.train.corpus import Corpus, corpus_in, write_corpus
from llamalab.train.initial import begin
from llamalab.train.recipe import Recipe
from llamalab.train.token_stream import TokenStream, stream_of
from llamalab.train.trainer import MakeOptimizer, Trainer, TrainingPlan

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "real"
ARCH = LlamaArch(dim=96, n_layers=3, n_heads=6, n_kv_heads=6, ffn_dim=256, vocab_size=512)
PLAN = TrainingPlan(steps=80, batch=8, seq=128)
RECIPE = Recipe(5e-3, warmup_steps=8)
SEEDS = (0, 1, 2)
FULL_STEPS = 1200  # of --full
CORPUS_BYTES = 1_000_000
_WORKERS, _LIMIT_S = 2, 3600.0

Change = Callable[[Transformer], nn.Module]
Work = Callable[[], Any]


class Run(NamedTuple):
    """A training run: losses, gradient norms, loss on the held-out part, and the thread's time of a step."""

    losses: list[float | None]
    norms: list[float | None]
    held_out: float | None
    step_s: float
    parameters: int

    @property
    def diverged(self) -> bool:
        """Whether the loss ended as no number, or above that of guessing by word frequency at the start."""
        return self.held_out is None or (self.losses[-1] or 0.0) > (self.losses[0] or 0.0)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of an experiment that trains."""
    made = answers.parser(doc)
    made.add_argument("--corpus", type=Path, default=ROOT / "build" / "corpus", metavar="FOLDER",
                      help="where the text is, or is written first")  # fmt: skip
    made.add_argument("--real", type=Path, default=REAL, metavar="FOLDER",
                      help="stories260K.bin, which writes the text, and tok512.bin")  # fmt: skip
    made.add_argument("--full", action="store_true", help=f"{FULL_STEPS} steps instead of {PLAN.steps}")
    return made


def prepared(args: argparse.Namespace) -> TrainingPlan:
    """The text is there, written where it was not; the plan of every run."""
    tokenizer_in(args.real)
    if corpus_in(args.corpus) is None:
        with Progress() as progress:
            write_corpus(args.corpus, load(args.real / "stories260K.bin", dtype="fp32"), tokenizer_in(args.real),
                         name="stories260K", size_bytes=CORPUS_BYTES, progress=progress)  # fmt: skip
    return PLAN._replace(steps=FULL_STEPS) if args.full else PLAN


def shortened(args: argparse.Namespace, steps: int) -> TrainingPlan:
    """As prepared, with so many steps where --full is not asked for."""
    plan = prepared(args)
    return plan if args.full else plan._replace(steps=steps)


def tokenizer_in(folder: Path) -> Tokenizer:
    """The vocabulary of 512 pieces."""
    return load_tokenizer(folder / "tok512.bin")


def text_of(args: argparse.Namespace) -> dict[str, object]:
    """What the record says of the text."""
    return written(args.corpus).about


def written(folder: Path) -> Corpus:
    """The corpus of a folder. Raises UnavailableError where there is none."""
    corpus = corpus_in(folder)
    if corpus is None:
        raise UnavailableError(f"a corpus must be in {folder}; there is none; run the experiment without changes first")
    return corpus


def stream_in(corpus: Path, real: Path) -> TokenStream:
    """The text as ids."""
    found = written(corpus)
    return stream_of(found.text, tokenizer_in(real), held_out=found.held_out)


def train_one(
    corpus: Path, real: Path, plan: TrainingPlan, *, change: Change | None = None, arch: LlamaArch = ARCH,
    recipe: Recipe = RECIPE, optimizer: MakeOptimizer = torch.optim.AdamW,
) -> Run:  # fmt: skip
    """Train a model, changed first by `change`, on one thread; the seed is the plan's, for weights and windows."""
    model = begun(arch, plan.seed, change)
    return followed(Trainer(model, stream_in(corpus, real), plan, recipe, optimizer=optimizer))


def begun(arch: LlamaArch, seed: int, change: Change | None = None) -> nn.Module:
    """A model of that seed, changed first, then filled with weights to train from; this process keeps to one thread."""
    torch.set_num_threads(1)
    model: Any = build(arch, dtype="fp32", seed=seed)
    if change is not None:
        model = change(model)
    begin(model, layers=arch.n_layers, seed=seed)
    return model  # type: ignore[no-any-return]


def each_seed(plan: TrainingPlan, train: Callable[[TrainingPlan], Any]) -> list[Any]:
    """What one process does of a variant: every seed after another."""
    return [train(plan._replace(seed=seed)) for seed in SEEDS]


def followed(trainer: Trainer) -> Run:
    """Every step of a trainer that is left, until the loss is no number any more."""
    losses: list[float] = []
    norms: list[float] = []
    begun_s = thread_time()
    while trainer.done < trainer.plan.steps and (not losses or isfinite(losses[-1])):
        taken = trainer.step()
        losses.append(taken.loss)
        norms.append(taken.gradient_norm)
    step_s = (thread_time() - begun_s) / max(1, len(losses))
    held_out = trainer.held_out_loss(windows=64) if isfinite(losses[-1]) else float("nan")
    counted = sum(parameter.numel() for parameter in trainer.model.parameters())
    return Run(_known(losses), _known(norms), held_out if isfinite(held_out) else None, step_s, counted)


def over_seeds(
    args: argparse.Namespace, plan: TrainingPlan, variants: dict[str, dict[str, Any]], *, train: Any = train_one
) -> dict[str, list[Run]]:
    """The runs of every variant, one for each seed; `variants` are the keywords of `train`."""
    works = [
        partial(each_seed, plan, partial(train, args.corpus, args.real, **keywords)) for keywords in variants.values()
    ]
    return dict(zip(variants, side_by_side(works, list(variants)), strict=True))


def side_by_side(works: Sequence[Work], labels: Sequence[str]) -> list[Any]:
    """What the works return, two at a time, each in a process of its own. Raises UnavailableError where one fails."""
    made: list[Any] = []
    with Progress() as progress, ThreadPoolExecutor(_WORKERS) as pool:
        progress(f"{len(works)} runs, {_WORKERS} at a time", 0.0)
        for label, outcome in zip(labels, pool.map(lambda work: run_isolated(work, _LIMIT_S), works), strict=True):
            if outcome.error is not None:
                raise UnavailableError(f"a run must end; {label}: {outcome.error}; {outcome.trace}")
            made.append(outcome.value)
            progress(label, len(made) / len(works))
    return made


def lower_in_all(ours: Iterable[float | None], theirs: Iterable[float | None]) -> bool:
    """Whether the first is lower with every seed; what diverged is higher than anything.

    >>> lower_in_all([1.0, 2.0], [1.1, None]), lower_in_all([1.0, 2.0], [1.1, 1.9])
    (True, False)
    """
    infinite = float("inf")
    pairs = zip(ours, theirs, strict=True)
    return all((infinite if a is None else a) < (infinite if b is None else b) for a, b in pairs)


def settled(first: str, second: str, runs: dict[str, list[Run]]) -> str:
    """A sentence on which of two variants has the lower held-out loss, and whether that holds over the seeds."""
    ours, theirs = ([run.held_out for run in runs[name]] for name in (first, second))
    if lower_in_all(ours, theirs):
        return f"{first} below {second} with all {len(ours)} seeds ({shown(ours)} against {shown(theirs)})"
    if lower_in_all(theirs, ours):
        return f"{second} below {first} with all {len(ours)} seeds ({shown(theirs)} against {shown(ours)})"
    return f"{first} and {second} not told apart: the order changes with the seed ({shown(ours)} and {shown(theirs)})"


def shown(losses: Sequence[float | None]) -> str:
    """The mean over seeds; that some diverged where some did.

    >>> shown([1.0, 2.0]), shown([1.0, None])
    ('1.500', '1 of 2 diverged')
    """
    known = [loss for loss in losses if loss is not None]
    return (
        f"{mean(known):.3f}" if len(known) == len(losses) else f"{len(losses) - len(known)} of {len(losses)} diverged"
    )


def rows_of(runs: dict[str, list[Run]], every: int = 4) -> list[dict[str, Any]]:
    """The runs for a record: one row a variant and seed, with every fourth loss."""
    return [
        {
            "variant": name, "seed": seed, "held_out_loss": run.held_out, "step_s": run.step_s,
            "parameters": run.parameters, "steps": len(run.losses), "losses": _rounded(run.losses[::every]),
            "gradient_norms": _rounded(run.norms[::every]),
        }
        for name, own in runs.items() for seed, run in zip(SEEDS, own, strict=True)
    ]  # fmt: skip


def _known(values: Sequence[float]) -> list[float | None]:
    return [value if isfinite(value) else None for value in values]


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.4g}") for value in values]
