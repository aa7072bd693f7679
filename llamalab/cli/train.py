"""`llamalab train`: a small model on real text, with the step's time and memory predicted beside the measured."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamalab.choices import DEVICES
from llamalab.cli.arguments import MODEL_HELP, Parser, add_choice, add_count, add_format
from llamalab.cli.delivery import give
from llamalab.cli.find_model import find_model, short_name
from llamalab.cli.output import Answer, Column, Table, note
from llamalab.cli.progress import Progress
from llamalab.errors import InputError, UnavailableError
from llamalab.files import check_exists
from llamalab.units import format_bytes, format_seconds, format_si

if TYPE_CHECKING:
    from llamalab.text import Tokenizer
    from llamalab.train.token_stream import TokenStream

SUMMARY = "train a small model on a text: loss, tokens/s and MFU, with the step predicted beside the measured"
EXAMPLES = (
    "llamalab train --text book.txt --tokenizer tok512.bin --run runs/book --steps 200",
    "llamalab train --corpus corpus --writer stories260K.bin --tokenizer tok512.bin --run runs/stories",
)
_SAVE_S = 60.0  # a run that is stopped loses no more than this
_ROOFS = ("gemm", "stream", "copy", "attention", "launch")
_COLUMNS = (
    Column("step", "step"),
    Column("loss", "loss", "{:.4f}".format),
    Column("gradient_norm", "gradient norm", "{:.3f}".format),
    Column("learning_rate", "rate", "{:.2e}".format),
    Column("step_s", "time", format_seconds),
)


def configure(parser: Parser) -> None:
    """The options of `llamalab train`."""
    parser.add_argument("--model", default="stories260k", help=MODEL_HELP.replace("7b)", "stories260k); its shape"))
    parser.add_argument("--tokenizer", required=True, metavar="FILE", help="tokenizer.json, .model, .bin or a folder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", metavar="FILE", help="what to learn, UTF-8; its last 5 %% are held out")
    source.add_argument("--corpus", metavar="FOLDER", help="a corpus of llamalab's; written first where there is none")
    parser.add_argument("--writer", metavar="PATH", help="the checkpoint that writes the corpus")
    parser.add_argument("--run", metavar="FOLDER", help="where the checkpoint goes; a run that is there goes on")
    add_count(parser, "--steps", "updates of the whole run", default=200)
    add_count(parser, "--until", "stop after so many of them (default: all)")
    add_count(parser, "--batch", "windows of a pass", default=8)
    add_count(parser, "--context", "tokens of a window", default=128)
    add_count(parser, "--accumulate", "passes of an update", default=1)
    add_choice(parser, "--dtype", ("fp32", "bf16"), "fp32", "of the model; the optimiser keeps fp32")
    add_choice(parser, "--device", DEVICES, "auto", "where to train; auto is cuda where there is one")
    parser.add_argument("--learning-rate", type=float, default=5e-3, metavar="RATE", help="the highest (default: 5e-3)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and windows (default: 0)")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Train, print the steps, and write the checkpoint where --run is given."""
    give(answer(args), args)
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """The steps that were taken, beside what was predicted. Raises InputError where a run cannot go on as asked."""
    check_exists(args.tokenizer, "tokenizer")
    name, arch = short_name(args.model), find_model(args.model)[1]
    from llamalab.measure.device.machine import resolve_device
    from llamalab.model import build
    from llamalab.text import load_tokenizer
    from llamalab.train.initial import begin
    from llamalab.train.recipe import Recipe
    from llamalab.train.token_stream import check_stream
    from llamalab.train.trainer import Trainer, TrainingPlan

    place, tokenizer = resolve_device(args.device), load_tokenizer(args.tokenizer)
    stream = _stream(args, tokenizer, str(place))
    check_stream(stream, seq=args.context, vocab_size=arch.vocab_size)
    plan = TrainingPlan(args.steps, args.batch, args.context, args.accumulate, args.seed)
    model = build(arch, dtype=args.dtype, device=place)
    begin(model, layers=arch.n_layers, seed=args.seed)
    trainer = Trainer(model, stream, plan, Recipe(args.learning_rate, warmup_steps=args.steps // 10))
    _resume(args, trainer)
    predicted = _predicted(args, arch, place)
    rows = _followed(args, trainer, predicted)
    held_out = trainer.held_out_loss()
    if args.run is not None:
        _save(args, trainer)
    return _answer(name, rows, held_out, predicted, plan.tokens)


def _stream(args: argparse.Namespace, tokenizer: "Tokenizer", device: str) -> "TokenStream":
    from llamalab.input_files import read_bounded_text
    from llamalab.text.train import MOST_TEXT_BYTES
    from llamalab.train.corpus import corpus_in, write_corpus
    from llamalab.train.token_stream import stream_of

    if args.text is not None:
        return stream_of(read_bounded_text(args.text, "text", most=MOST_TEXT_BYTES), tokenizer, device=device)
    folder = Path(args.corpus)
    found = corpus_in(folder)
    if found is None:
        if args.writer is None:
            raise InputError(f"--writer must name the checkpoint that writes a corpus; {folder} has none yet")
        from llamalab.checkpoints import load

        writer = load(args.writer, dtype="fp32")
        with Progress() as progress:
            found = write_corpus(folder, writer, tokenizer, name=short_name(args.writer), progress=progress)
    return stream_of(found.text, tokenizer, held_out=found.held_out, device=device)


def _resume(args: argparse.Namespace, trainer: Any) -> None:
    from llamalab.train.saved import resume, settings_of, steps_saved

    if args.run is None or not steps_saved(Path(args.run)):
        return
    resume(Path(args.run), trainer, settings_of(trainer))
    note(f"the run in {args.run} goes on after step {trainer.done}")


def _save(args: argparse.Namespace, trainer: Any) -> None:
    from llamalab.checkpoints.text_side import text_source
    from llamalab.train.saved import checkpoint_path, save

    place = Path(args.run)
    if not checkpoint_path(place, trainer.done).exists():
        note(f"wrote {save(place, trainer, text_source(place, tokenizer=args.tokenizer, lora=None))}")


def _predicted(args: argparse.Namespace, arch: Any, place: Any) -> dict[str, Any]:
    """FLOPs and memory counted; time and peak from this machine's roofs, None and the reason where one has a fault."""
    from llamalab.analytic.fine_tuning import Tuning, tuning_memory, tuning_work
    from llamalab.measure.device.machine import clock_for
    from llamalab.measure.roofs.machine import Machine
    from llamalab.measure.roofs.quick import quick_roofs

    with Progress() as progress:
        progress("roofs of this machine", 0.0)
        roofs = {roof.kind: roof for roof in quick_roofs(Machine(place, clock_for(place), args.dtype), arch)}
    step = Tuning(
        arch,
        args.context,
        args.batch,
        precision="fp32" if args.dtype == "fp32" else "mixed",
        implementation="llamalab",
        accumulate=args.accumulate,
    )
    return {
        **_step_time(args, arch, roofs),
        "flops": tuning_work(step).flops,
        "predicted_memory_bytes": tuning_memory(step).total_bytes,
    }


def _step_time(args: argparse.Namespace, arch: Any, roofs: dict[str, Any]) -> dict[str, Any]:
    """The peak of products and the time of a step; None for what rests on a roof that cannot carry it."""
    from llamalab.analytic.pass_shape import PassShape
    from llamalab.analytic.roofline import Rates
    from llamalab.analytic.training_time import step_time
    from llamalab.comparison.basis import roof_fault

    faults = {kind: roof_fault(kind, args.dtype, roofs.get(kind)) for kind in _ROOFS}
    peak = None if faults["gemm"] else roofs["gemm"].per_second
    if reason := next(filter(None, faults.values()), None):
        return {"peak_flops_per_s": peak, "predicted_step_s": None, "reason": reason}
    launch_s, copy = roofs["launch"].seconds, roofs["copy"].per_second
    rates = {
        "gemm": Rates(peak, roofs["stream"].per_second, launch_s),
        "gather": Rates(None, copy, launch_s),
        "attention": Rates(roofs["attention"].per_second, copy, launch_s),
        "elementwise": Rates(None, copy, launch_s),
    }
    time = step_time(
        arch, rates, PassShape(new_tokens=args.context, batch=args.batch, dtype=args.dtype), accumulate=args.accumulate
    )
    return {"peak_flops_per_s": peak, "predicted_step_s": time.total_s, "reason": None}


def _mfu(predicted: dict[str, Any], step_s: float) -> float | None:
    """The share of the peak of products that a step reached; None where the peak is not known."""
    peak = predicted["peak_flops_per_s"]
    return predicted["flops"] / step_s / peak if peak else None


def _followed(args: argparse.Namespace, trainer: Any, predicted: dict[str, Any]) -> list[dict[str, Any]]:
    from math import isfinite
    from time import perf_counter

    last, rows = min(args.until or args.steps, args.steps), []
    first, saved_s = trainer.done, perf_counter()
    with Progress() as progress:
        while trainer.done < last:
            begun_s = perf_counter()
            taken = trainer.step()
            step_s = perf_counter() - begun_s
            if not isfinite(taken.loss):
                raise UnavailableError(
                    f"the loss must stay a number; it is {taken.loss} at step {taken.step}; lower --learning-rate"
                )
            rows.append({**taken._asdict(), "step_s": step_s})
            if args.run is not None and perf_counter() - saved_s > _SAVE_S:
                _save(args, trainer)
                saved_s = perf_counter()
            used = _mfu(predicted, step_s)
            progress(
                f"loss {taken.loss:.2f}, {trainer.plan.tokens / step_s:,.0f} tok/s, "
                f"MFU {'-' if used is None else f'{used:.0%}'}",
                (trainer.done - first) / (last - first),
            )
    return rows


def _answer(name: str, rows: list[dict[str, Any]], held_out: float, predicted: dict[str, Any], tokens: int) -> Answer:
    from statistics import median

    if not rows:
        raise InputError("a run must have steps left; all are taken; ask for more --steps in another --run")
    step_s = median(row["step_s"] for row in rows)
    data = {
        "model": name,
        "held_out_loss": held_out,
        "step_s": step_s,
        "tokens_per_s": tokens / step_s,
        "mfu": _mfu(predicted, step_s),
        **predicted,
        "steps": rows,
    }
    reached = (
        "MFU -"
        if data["mfu"] is None
        else (f"MFU {data['mfu']:.1%} of {format_si(predicted['peak_flops_per_s'], 'FLOP/s')}")
    )
    expected = predicted["reason"] or f"predicted {format_seconds(predicted['predicted_step_s'])}"
    lead = (
        f"{name}: loss {rows[0]['loss']:.3f} to {rows[-1]['loss']:.3f} in steps {rows[0]['step']} to "
        f"{rows[-1]['step']}, {held_out:.3f} held out",
        f"  a step takes {format_seconds(step_s)}, {expected}: {tokens / step_s:,.0f} tokens/s, {reached}",
        f"  predicted to hold {format_bytes(predicted['predicted_memory_bytes'])} at its peak",
    )
    shown = rows[:: max(1, len(rows) // 10)]
    return Answer(data, lead, (Table(_COLUMNS, shown if shown[-1] is rows[-1] else [*shown, rows[-1]]),))
