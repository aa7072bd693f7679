"""`llamalab train`: a small model on real text, with the step's time and memory predicted and measured."""

import argparse
from pathlib import Path

from llamalab.cli.arguments import MODEL_HELP, add_choice, add_count, add_format
from llamalab.cli.find_model import find_model, short_name
from llamalab.cli.output import Answer, note
from llamalab.cli.parser import Parser
from llamalab.cli.progress import Progress
from llamalab.cli.train_answer import training_answer
from llamalab.errors import InputError, UnavailableError
from llamalab.files.inputs import check_exists
from llamalab.files.outputs import check_target, write_text
from llamalab.formatting import format_rate
from llamalab.measure.device.kinds import DEVICES
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.measure.training.step import StepForecast
    from llamalab.text import Tokenizer
    from llamalab.train.token_stream import TokenStream

SUMMARY = "train a small model on a text: loss, tokens/s and MFU, with the step predicted beside the measured"
EXAMPLES = (
    "llamalab train --text book.txt --tokenizer tok512.bin --run runs/book --steps 200",
    "llamalab train --corpus corpus --writer stories260K.bin --tokenizer tok512.bin --run runs/stories",
)
_SAVE_S = 60.0  # a run that is stopped loses no more than this
RUN_FILE, CURVE_FILE = "run.json", "loss.svg"


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
    parser.add_argument("--curve", metavar="FILE.svg", help="the loss over the steps (default: loss.svg in --run)")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The steps taken, with the predictions. Raises InputError where a run cannot be resumed with these options."""
    check_exists(args.tokenizer, "tokenizer")
    _check_outputs(args)
    name, arch = short_name(args.model), find_model(args.model)[1]
    from llamalab.measure.device.machine import clock_for, device_name, resolve_device
    from llamalab.measure.roofs.machine import Machine
    from llamalab.measure.training.step import expected_step, held_bytes
    from llamalab.model import build
    from llamalab.model.host_memory import keep_freed_memory
    from llamalab.text import load_tokenizer
    from llamalab.train.initial import begin
    from llamalab.train.recipe import Recipe
    from llamalab.train.token_stream import check_stream
    from llamalab.train.trainer import Trainer, TrainingPlan

    place, tokenizer = resolve_device(args.device), load_tokenizer(args.tokenizer)
    stream = _stream(args, tokenizer, str(place))
    check_stream(stream, seq=args.context, vocab_size=arch.vocab_size)
    plan = TrainingPlan(args.steps, args.batch, args.context, args.accumulate, args.seed)
    keep_freed_memory()  # a step's activations are as large as the last one's
    with Progress() as progress:
        progress("rates of this machine", 0.0)
        expected = expected_step(Machine(place, clock_for(place), args.dtype), arch, plan)
    model = build(arch, dtype=args.dtype, device=place)
    begin(model, layers=arch.n_layers, seed=args.seed)
    trainer = Trainer(model, stream, plan, Recipe(args.learning_rate, warmup_steps=args.steps // 10))
    rows = _resumed(args, trainer)
    taken = _followed(args, trainer, expected, rows)
    measured = {"held_out_loss": trainer.held_out_loss(), "measured_memory_bytes": held_bytes(trainer, place)}
    if args.run is not None:
        _save(args, trainer, rows + taken)
    about = {"model": name, "device": device_name(place), "dtype": args.dtype, "plan": plan._asdict()}
    found = training_answer(about, rows, taken, measured, expected)
    _keep(args, found.data)
    return found


def _check_outputs(args: argparse.Namespace) -> None:
    """Check before any work that the run's own files can be written."""
    if args.run is not None:
        check_target(Path(args.run) / RUN_FILE, ours='"held_out_loss"')
    if (curve := _curve_path(args)) is not None:
        check_target(curve, ours="Loss over the steps")


def _curve_path(args: argparse.Namespace) -> Path | None:
    if args.curve is not None:
        return Path(args.curve)
    return None if args.run is None else Path(args.run) / CURVE_FILE


def _keep(args: argparse.Namespace, data: dict[str, Any]) -> None:
    """Write the run as JSON in its folder, and the curve."""
    import json

    if args.run is not None:
        write_text(Path(args.run) / RUN_FILE, json.dumps(data, indent=1) + "\n", ours='"held_out_loss"')
    if (curve := _curve_path(args)) is not None:
        from llamalab.report.charts.training import loss_curve
        from llamalab.report.drawing import drawing

        write_text(curve, drawing(loss_curve, data), ours="Loss over the steps")
        note(f"wrote {curve}")


def _stream(args: argparse.Namespace, tokenizer: "Tokenizer", device: str) -> "TokenStream":
    from llamalab.files.inputs import read_bounded_text
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


def _resumed(args: argparse.Namespace, trainer: Any) -> list[dict[str, Any]]:
    """The steps that a run took before, its trainer put behind the last of them; none of a new run."""
    from llamalab.train.saved import resume, steps_saved, trainer_settings

    if args.run is None or not steps_saved(Path(args.run)):
        return []
    rows = resume(Path(args.run), trainer, trainer_settings(trainer))
    note(f"the run in {args.run} goes on after step {trainer.done}")
    return rows


def _save(args: argparse.Namespace, trainer: Any, rows: list[dict[str, Any]]) -> None:
    from llamalab.checkpoints.text_side import text_source
    from llamalab.train.saved import checkpoint_path, save

    place = Path(args.run)
    if not checkpoint_path(place, trainer.done).exists():
        note(f"wrote {save(place, trainer, text_source(place, tokenizer=args.tokenizer, lora=None), rows)}")


def _followed(
    args: argparse.Namespace, trainer: Any, expected: "StepForecast", before: list[dict[str, Any]]
) -> list[dict[str, Any]]:
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
                _save(args, trainer, before + rows)
                saved_s = perf_counter()
            used = expected.mfu(step_s)
            progress(
                f"loss {taken.loss:.2f}, {format_rate(trainer.plan.tokens / step_s)} tok/s, "
                f"MFU {'-' if used is None else f'{used:.0%}'}",
                (trainer.done - first) / (last - first),
            )
    return rows
