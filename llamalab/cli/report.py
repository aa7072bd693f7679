"""`llamalab report`: measure this machine and write predicted against measured as HTML, JSON and CSV."""

import argparse
from pathlib import Path

from llamalab.choices import ACTIVATION_DTYPES, FORMATS, STACK_NAMES
from llamalab.cli.arguments import (
    MODEL_HELP,
    add_backend,
    add_choice,
    add_count,
    add_kv_storage,
    add_weight_storage,
    one_of,
)
from llamalab.cli.parser import Parser
from llamalab.cli.ranks import add_tensor_parallel
from llamalab.cli.report_files import check_page, default_page
from llamalab.cli.report_measure import measure_and_show
from llamalab.cli.report_pages import show_bench, show_profiles, show_record, show_training
from llamalab.errors import InputError
from llamalab.hardware import find_hardware
from llamalab.measure.device.kinds import DEVICES
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
        type=one_of("--stack", STACK_NAMES),
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
    """Measure or read, render, write; print the verdict, remarks and the path of the page."""
    if args.hardware is not None:
        args.hardware = find_hardware(args.hardware).name
    if args.record is None:
        return measure_and_show(args)
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
        return show_bench(args, text)
    from llamalab.report.training_page import is_training_run

    if is_training_run(text):
        return show_training(args, text)
    return show_profiles(args, text) if are_profiles(text) else show_record(_read(args, text), args)


def _read(args: argparse.Namespace, text: str) -> "Record":
    from llamalab.records.record_json import record_from_json

    record = record_from_json(text, source=args.record)
    check_page(Path(args.out or default_page(record.model, record.environment.device)))
    return record
