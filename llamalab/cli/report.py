"""`llamalab report`: measure this machine and write predicted against measured as HTML, JSON and CSV."""

import argparse
from dataclasses import replace
from pathlib import Path

from llamalab.analytic import grades
from llamalab.analytic.params import SMALL_MODEL_BYTES, weight_bytes
from llamalab.analytic.stacks import stack_names
from llamalab.choices import ACTIVATION_DTYPES, FORMATS
from llamalab.cli.arguments import (
    MODEL_HELP,
    Parser,
    add_backend,
    add_choice,
    add_count,
    add_kv_storage,
    add_weight_storage,
    one_of,
)
from llamalab.cli.find_model import is_checkpoint, model_to_measure
from llamalab.cli.output import Answer, Column, Table, answer_text, note, option_of
from llamalab.cli.progress import Progress
from llamalab.cli.ranks import add_tensor_parallel
from llamalab.cli.report_files import check_page, default_page, keep_record, write_files, write_report
from llamalab.errors import InputError, LlamaLabError, UnavailableError
from llamalab.files.inputs import check_exists
from llamalab.formatting import format_bytes
from llamalab.hardware import find_hardware
from llamalab.measure.device.kinds import DEVICES
from llamalab.measure.timing.deadline import Deadline
from llamalab.plain_text import printable
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from llamalab.records.record import Record

ON_RANKS = True
SUMMARY = "measure this machine and write predicted against measured as HTML"
EXAMPLES = (
    "llamalab report --model 7b",
    "llamalab report --model tiny --device cpu --out tiny.html",
    "llamalab report --from bench.json --out bench.html",
)
_SECONDS = {"small": 14.0, "large": 100.0}  # of measuring and calibrating; loading torch and rendering come on top
MEASURED_SHARE = 0.8  # of the time, where a calibration follows


def configure(parser: Parser) -> None:
    """The options of `llamalab report`."""
    parser.add_argument("--model", default="7b", help=MODEL_HELP)
    add_count(parser, "--prompt", "prompt tokens (default: 512, cuda 2048)")
    about = "tokens after the prompt: that in their middle is decoded, and the page's run has so many"
    add_count(parser, "--generate", f"{about} (default: decode is the token after the prompt)")
    add_count(parser, "--context", "tokens in view of the decoded one, itself included (default: as --generate says)")
    add_count(parser, "--batch", "sequences", default=1)
    add_tensor_parallel(parser)
    parser.add_argument(
        "--text", metavar="TEXT", help="a sentence whose attention in a checkpoint is shown (default: a short story)"
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="for that sentence (default: the checkpoint's own)")
    add_choice(parser, "--device", DEVICES, "auto", "where to measure; auto is cuda where there is one")
    add_choice(parser, "--dtype", ACTIVATION_DTYPES, "bf16", "of weights, activations and cache")
    add_weight_storage(parser)
    add_kv_storage(parser)
    add_backend(parser)
    add_choice(parser, "--format", FORMATS, "table", "how the verdict is printed beside the page; table: in words")
    parser.add_argument("--out", metavar="PATH", help="the HTML file (default: reports/<model>-<device>.html)")
    parser.add_argument(
        "--stack",
        type=one_of("--stack", stack_names()),
        metavar="NAME",
        help="the software that predictions for other devices are of (default: what is usual on each)",
    )
    parser.add_argument(
        "--hardware",
        metavar="NAME",
        help="the GPU whose published kernels stand beside the op table predicted for it (default: all that have some)",
    )
    parser.add_argument("--full", action="store_true", help="run every block instead of a few; the model must fit")
    parser.add_argument(
        "--from",
        dest="record",
        metavar="FILE",
        action="append",
        help="render a record, the JSON of llamalab profile, bench or train, or a page's own, instead of measuring",
    )


def run(args: argparse.Namespace) -> int:
    """Measure or read, render, write; print the verdict, and beside it what to know and where the page is."""
    if args.hardware is not None:
        args.hardware = find_hardware(args.hardware).name
    if args.record is None:
        return _measure(args)
    if len(args.record) > 1:
        raise InputError(
            f"--from must name one record, of which the page is; got {len(args.record)}; to hold them against each "
            f"other: llamalab compare {' '.join(args.record)}"
        )
    args.record = args.record[0]
    from llamalab.records.profile import are_profiles
    from llamalab.records.record_json import shown_text

    text = shown_text(args.record, "record of --from")
    from llamalab.report.bench_page import are_bench_rows

    if are_bench_rows(text):
        return _show_bench(args, text)
    from llamalab.report.training_page import is_training_run

    if is_training_run(text):
        return _show_training(args, text)
    return _show_profiles(args, text) if are_profiles(text) else _show(_read(args, text), args)


def _tell(args: argparse.Namespace, answer: Answer) -> None:
    """The first lines of an answer in words, or all of it, as --format says."""
    shown = "\n".join(map(printable, answer.lead)) if args.format == "table" else answer_text(answer, args.format)
    print(shown, flush=True)


def _show(record: "Record", args: argparse.Namespace) -> int:
    from llamalab.cli.report_answer import report_answer

    page = Path(args.out or default_page(record.model, record.environment.device))
    size, remarks = write_report(record, page, args.stack, args.hardware)
    _tell(args, report_answer(record))
    for remark in (*record.notes, *_uncalibrated(record), *remarks, f"the page is {page} ({format_bytes(size)})"):
        note(remark)
    return 0


def _show_kept(record: "Record", args: argparse.Namespace, kept: Path | None) -> int:
    """As _show; whatever goes wrong, the record is there, and it is said how to go on from it."""
    try:
        return _show(record, args)
    except Exception as error:
        again = f"the record is kept: render again with llamalab report --from {kept}" if kept else "see the record"
        told = (
            error.spelled(option_of)
            if isinstance(error, LlamaLabError)
            else str(error)
            if isinstance(error, OSError)
            else f"{type(error).__name__}: {error}"
        )
        raise UnavailableError(f"the page must be drawn from what was measured; {told}; {again}") from error


def _show_profiles(args: argparse.Namespace, text: str) -> int:
    """The page and the CSVs of profiles; their JSON is what they were read from, and stays as it is."""
    from llamalab.cli.profile_output import profile_answer
    from llamalab.records.profile import profiles_from_json
    from llamalab.report import profile_csv_files, render_profiles
    from llamalab.report.profile_captions import largest_parts

    profiles = profiles_from_json(text, source=args.record)
    page = Path(args.out or default_page(f"{profiles[0].model}-profile", profiles[0].environment.device))
    texts = {page.with_suffix(f".{name}.csv"): csv for name, csv in profile_csv_files(profiles).items()}
    check_page(page, tuple(texts))
    html = render_profiles(profiles)
    write_files(texts, page, html)
    told = [
        f"{one.model}, {one.kind}, {phase.phase}: {largest_parts(phase)}" for one in profiles for phase in one.phases
    ]
    answer = profile_answer(profiles)
    _tell(args, Answer(answer.data, tuple(told), answer.tables))
    for remark in (remark for profile in profiles for remark in profile.notes):
        note(remark)
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def _show_bench(args: argparse.Namespace, text: str) -> int:
    """The page of a bench; its JSON stays as it is."""
    from llamalab.report import render_bench
    from llamalab.report.bench_page import bench_table, rows_of_bench

    rows = rows_of_bench(text, source=args.record)
    page = Path(args.out or default_page(f"{rows[0]['model']}-bench", rows[0].get("backend") or "cpu"))
    check_page(page, ())
    html = render_bench(rows)
    write_files({}, page, html)
    lead = tuple("  ".join(row[:5]) for row in bench_table(rows).shown)
    _tell(args, Answer({"rows": rows}, lead, (Table(tuple(Column(key, key) for key in rows[0]), rows),)))
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def _show_training(args: argparse.Namespace, text: str) -> int:
    """The page of a training run; its JSON stays as it is."""
    from llamalab.report import render_training
    from llamalab.report.training_page import against, training_run

    run = training_run(text, source=args.record)
    page = Path(args.out or default_page(f"{run['model']}-training", "cpu"))
    check_page(page, ())
    html = render_training(run)
    write_files({}, page, html)
    found = against(run)
    lead = tuple("  ".join(row) for row in found.shown)
    _tell(args, Answer(dict(run), lead, (Table(tuple(Column(key, key) for key in found.rows[0]), found.rows),)))
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def _uncalibrated(record: "Record") -> tuple[str, ...]:
    if record.constants is not None:
        grade = grades.read_grade(record.constants.get("grade"))
        told = f"predictions rest on a calibration graded {grade.words}; run llamalab calibrate on a quiet machine"
        return (told,) if grade.name == "poor" else ()
    return ("predictions rest on roofs alone, which leave out the time of a call; llamalab calibrate adds it",)


def _measure(args: argparse.Namespace) -> int:
    """Measure and write the record; only then calibrate, draw and judge, none of which can cost the measurement."""
    if args.out is not None:
        check_page(Path(args.out))
    if args.tokenizer is not None:
        check_exists(args.tokenizer, "tokenizer")
    if (args.text is not None or args.tokenizer is not None) and not is_checkpoint(args.model):
        from llamalab.records.patterns import sentence_without_weights

        raise sentence_without_weights()
    name, arch, weights = model_to_measure(args.model)
    device = _resolved(args.device)
    page = Path(args.out or default_page(name, device))
    check_page(page)
    from llamalab.measure.calibration import constants_here
    from llamalab.measure.device.machine import resolve_device
    from llamalab.measure.report.patterns import reading
    from llamalab.measure.report.run import measure_report

    read = reading(args.model, weights, args.text, args.tokenizer)
    deadline = Deadline(_SECONDS["small" if weight_bytes(arch, args.dtype) < SMALL_MODEL_BYTES else "large"])
    place = resolve_device(device)
    # Those that are kept are of a process with all processors, and a rank has its share of them.
    alone = getattr(args, "team", None) is None
    constants = constants_here.kept_constants(place, args.dtype, args.weight_dtype) if alone else None
    share = 1.0 if constants else MEASURED_SHARE

    with Progress(deadline) as progress:
        measured = measure_report(
            name, arch, device=device, dtype=args.dtype, full=args.full, prompt_tokens=args.prompt, batch=args.batch,
            generate=args.generate, context_tokens=args.context, weights=weights, read=read,
            weight_dtype=args.weight_dtype,
            kv_dtype=args.kv_dtype,
            attention=args.attention,
            deadline=deadline.part(share),
            team=getattr(args, "team", None),
            progress=lambda label, done: progress(label, share * done),
        )  # fmt: skip
        record = replace(measured, constants=constants)
        kept = keep_record(record, page)
        if constants is None:
            try:
                constants = constants_here.short_calibration(
                    place,
                    args.dtype,
                    weight_bytes=weight_bytes(arch, args.dtype),
                    deadline=deadline,
                    kept=measured.kept,
                    progress=lambda label, done: progress(f"calibration, {label}", share + (1 - share) * done),
                )
            except Exception as error:
                note(f"the calibration failed ({type(error).__name__}: {error})")
            except BaseException:
                note(f"the record is kept as {kept}")
                raise
            if constants is not None:
                record = replace(measured, constants=constants)
                kept = keep_record(record, page)
    return _show_kept(record, args, kept)


def _read(args: argparse.Namespace, text: str) -> "Record":
    from llamalab.records.record_json import record_from_json

    record = record_from_json(text, source=args.record)
    check_page(Path(args.out or default_page(record.model, record.environment.device)))
    return record


def _resolved(device: str) -> str:
    if device != "auto":
        return device
    from llamalab.measure.device.machine import resolve_device

    return resolve_device(device).type
