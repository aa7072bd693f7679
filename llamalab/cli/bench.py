"""`llamalab bench`: the speed of prompts and generation here, over depth and batch, with predictions."""

import argparse
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

from llamalab.analytic.params import parameter_count
from llamalab.choices import ACTIVATION_DTYPES, SCOPES
from llamalab.cli.arguments import (
    MODEL_HELP,
    add_backend,
    add_choice,
    add_count,
    add_kv_storage,
    add_verbose,
    add_weight_storage,
    count,
    one_of,
)
from llamalab.cli.bench_output import FORMS, BenchOutput, bench_answer
from llamalab.cli.counts import parse_counts
from llamalab.cli.find_model import model_to_measure, note_beyond, split_paths
from llamalab.cli.output import Answer
from llamalab.cli.parser import Parser
from llamalab.cli.progress import Progress
from llamalab.cli.ranks import add_tensor_parallel
from llamalab.errors import InputError, UnavailableError
from llamalab.files.outputs import check_target
from llamalab.measure.device.kinds import DEVICES
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from llamalab.measure.bench.rows import BenchCase, BenchRow

ON_RANKS = True
SUMMARY = "tokens per second of prompts and generation over depth and batch, as llama-bench measures them"
EXAMPLES = (
    "llamalab bench --model 7b -p 512,2048 -n 128 -d 0,4096 -b 1,4,16",
    "llamalab bench --model 70b --tie-blocks 2 -p 0 -n 64 --pg 512,128 -o md",
    "llamalab bench --model tiny -r 10 -o jsonl --out tiny.jsonl",
)


def configure(parser: Parser) -> None:
    """The options of `llamalab bench`."""
    parser.add_argument("-m", "--model", default="7b", help=f"{MODEL_HELP}; several with commas")
    for option, long, default, about in (
        ("-p", "--prompt", [512], "prompt tokens to process; 0 for no such test (default: 512)"),
        ("-n", "--generate", [128], "tokens to generate one at a time; 0 for no such test (default: 128)"),
        ("-b", "--batch", [1], "sequences (default: 1)"),
    ):
        parser.add_argument(option, long, type=sizes(option), default=default, metavar="N", help=about)
    before = parser.add_mutually_exclusive_group()
    before.add_argument(
        "-d", "--depth", type=sizes("-d"), default=[0], metavar="N", help="tokens in the cache before (default: 0)"
    )
    about = "tokens in view when the prompt is read, the prompt included: --depth is what is left of them"
    before.add_argument("--context", type=sizes("--context"), metavar="N", help=about)
    parser.add_argument(
        "--pg",
        type=pair,
        action="append",
        default=[],
        metavar="P,N",
        help="a test of a prompt and the generation after it; can be given again",
    )
    about = "repetitions of each test, after a warm-up (default: 5)"
    parser.add_argument("-r", "--repetitions", type=count("-r"), default=5, metavar="N", help=about)
    add_tensor_parallel(parser)
    add_choice(parser, "--device", DEVICES, "auto", "where to measure; auto is cuda where there is one")
    add_choice(parser, "--dtype", ACTIVATION_DTYPES, "bf16", "of weights, activations and cache")
    add_weight_storage(parser)
    add_kv_storage(parser)
    add_backend(parser)
    add_choice(
        parser, "--compile", SCOPES, "none", "compile each block, or a step; the warm-up then holds the compilation"
    )
    parser.add_argument(
        "--tie-blocks",
        type=tie,
        default="auto",
        metavar="auto|K|off",
        help="run all layers over K distinct blocks; auto does so if the model does not fit (default: auto)",
    )
    add_count(parser, "--threads", "threads of the CPU (default: PyTorch's)")
    parser.add_argument(
        "-o",
        "--format",
        type=one_of("-o", FORMS),
        default="table",
        metavar="|".join(FORMS),
        help="csv, jsonl and md come row by row, table and json at the end (default: table)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the rows to a file, whole after every row")
    add_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, and print or write each row as it is done; rows before a Ctrl-C are kept."""
    if args.out is not None:
        check_target(args.out)
    rows = BenchOutput(args.format, args.out, verbose=args.verbose)
    with Progress() as progress:
        try:
            for row in _measured(args, progress):
                rows.add(row)
        finally:
            rows.finish()
    return 0 if any(row.passes_s for row in rows.rows) else UnavailableError.exit_code


def answer(args: argparse.Namespace) -> Answer:
    """All rows, when the last is done."""
    with Progress() as progress:
        return bench_answer(list(_measured(args, progress)))


def _measured(args: argparse.Namespace, progress: Progress) -> "Iterator[BenchRow]":
    models = [model_to_measure(name) for name in split_paths(args.model)]
    cases = cases_of(args)
    for _, arch, _ in models:
        note_beyond(arch, max(case.context for case in cases))
    from llamalab.measure.bench.run import measure_bench
    from llamalab.measure.timing.deadline import part_of

    ends = [0.0, *accumulate(parameter_count(arch) for _, arch, _ in models)]
    # Generators validate their arguments when made, so that an error is raised before the first test.
    benches = [
        measure_bench(
            name,
            arch,
            cases,
            device=args.device,
            dtype=args.dtype,
            attention=args.attention,
            compiled=args.compile,
            tie_blocks=args.tie_blocks,
            weight_dtype=args.weight_dtype,
            kv_dtype=args.kv_dtype,
            threads=args.threads,
            repetitions=args.repetitions,
            weights=weights,
            team=getattr(args, "team", None),
            progress=part_of(progress, begun / ends[-1], ended / ends[-1]),
        )
        for (name, arch, weights), (begun, ended) in zip(models, pairwise(ends), strict=True)
    ]
    for bench in benches:
        yield from bench


def cases_of(args: argparse.Namespace) -> "list[BenchCase]":
    """The tests that the options name. Raises InputError where there is none."""
    from llamalab.measure.bench.rows import grid

    prompts, generates = ([size for size in given if size] for given in (args.prompt, args.generate))
    if args.context is None:
        cases = grid(prompts, generates, args.pg, depths=args.depth, batches=args.batch)
    else:
        cases = _in_context(args.context, grid(prompts, generates, args.pg, batches=args.batch))
    if not cases:
        raise InputError("a bench must have a test; -p and -n are 0 and there is no --pg; give one of them")
    return cases


def _in_context(lengths: list[int], cases: "list[BenchCase]") -> "list[BenchCase]":
    """The tests at every length in view when the prompt is read."""
    short = [(length, case.prompt) for length in lengths for case in cases if length < case.prompt]
    if short:
        raise InputError(f"--context must count the prompt of {short[0][1]} tokens; got {short[0][0]}")
    return [case._replace(depth=length - case.prompt) for length in lengths for case in cases]


def sizes(option: str) -> Callable[[str], list[int]]:
    """An argparse type: counts as everywhere, 512 or 512,2048 or 512-4096*2, of which some may be 0.

    >>> sizes("-d")("0,4k"), sizes("-p")("512-2048*2")
    ([0, 4096], [512, 1024, 2048])
    """

    def read(text: str) -> list[int]:
        try:
            return [
                size
                for part in text.split(",")
                for size in ([0] if part.strip() == "0" else parse_counts(part, option))
            ]
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def pair(text: str) -> tuple[int, int]:
    """An argparse type: 512,128."""
    try:
        prompt, generate = parse_counts(text, "--pg")
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValueError:
        message = f"--pg must be a prompt and a generation, as 512,128; got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return prompt, generate


def tie(text: str) -> int | str | None:
    """An argparse type: auto, off (None) or a count of blocks.

    >>> tie("auto"), tie("off"), tie("2")
    ('auto', None, 2)
    """
    if text in ("auto", "off"):
        return None if text == "off" else text
    return count("--tie-blocks")(text)
