"""`llamalab fit`: whether a run fits into a memory, term by term, and the largest run that does."""

import argparse
from functools import partial
from itertools import product

from llamalab.analytic.activations import WAYS
from llamalab.analytic.fit import needs
from llamalab.analytic.fit_run import FitRun
from llamalab.analytic.fit_solve import (
    Holds,
    check_run_fits,
    largest_batch,
    largest_context,
    least_ranks,
    most_gpu_layers,
    widest_weights,
)
from llamalab.analytic.kv_storage import KV_DTYPES
from llamalab.analytic.runtimes import RUNTIMES
from llamalab.choices import LOGITS
from llamalab.cli.arguments import (
    add_choice,
    add_count,
    add_counts,
    add_dtypes,
    add_format,
    add_model,
    add_part_dtypes,
    add_shared,
    bytes_of_option,
    chosen_model,
    count,
    one_of,
)
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.device_memory import device_memory
from llamalab.cli.find_model import take_storage
from llamalab.cli.fit_answer import devices_answer, fitting_answer
from llamalab.cli.fit_cache import cache_alone
from llamalab.cli.lengths import run_lengths
from llamalab.cli.output import Answer, Column, thousands
from llamalab.cli.parser import Parser
from llamalab.cli.stored_models import StoredWeights
from llamalab.errors import InputError
from llamalab.formatting import format_bytes
from llamalab.startup.hints import Any
from llamalab.units import DTYPES, FLOAT_DTYPES

SUMMARY = "whether a run fits into a memory, term by term, and the largest that does"
EXAMPLES = (
    "llamalab fit --memory 24GiB",
    "llamalab fit --memory 24GiB --model 13b --context 4096 --batch 4 --solve weights",
    "llamalab fit --free 10GB --dtype fp16 --batch 4",
)
SOLVES = ("batch", "context", "weights", "ranks", "device", "gpu-layers")


_FOUND = (
    Column("max_batch", "largest batch", thousands),
    Column("max_context", "longest context", thousands),
    Column("total_bytes", "held", format_bytes),
    Column("left_bytes", "left", format_bytes),
)


def configure(parser: Parser) -> None:
    """The options of `llamalab fit`."""
    space = parser.add_mutually_exclusive_group()
    space.add_argument(
        "--memory", type=bytes_of_option("--memory"), metavar="SIZE", help="of one device, as 24GiB or 24GB"
    )
    space.add_argument("--hardware", metavar="NAME", help="a device (see llamalab hardware), for its memory")
    space.add_argument(
        "--free", type=bytes_of_option("--free"), metavar="SIZE", help="for the KV cache alone: all else is in already"
    )
    add_counts(parser, "--context", "tokens in each sequence: asks for the largest batch", default=None)
    parser.rename("--seq", "--context")
    about = "sequences: asks for the longest context; with --context, asks whether that fits"
    add_counts(parser, "--batch", about, default=None)
    parser.add_argument("--solve", type=one_of("--solve", SOLVES), metavar="|".join(SOLVES), help="what to look for")
    add_model(parser)
    add_dtypes(parser, "of activations, weights and KV cache", known=DTYPES)
    add_part_dtypes(parser, cache=KV_DTYPES)
    add_counts(parser, "--prompt", "tokens that come at once (default: all of --context)", default=None)
    add_counts(parser, "--generate", "tokens after the prompt, in place of one of the other two", default=None)
    add_count(parser, "--chunk", "tokens of each sequence in one pass (default: the prompt)")
    add_choice(parser, "--attention", WAYS, "flash", "how attention holds its scores")
    add_choice(parser, "--logits", LOGITS, "last", "positions that get logits")
    add_shared(parser)
    add_count(parser, "--block-tokens", "tokens of a block of a paged KV cache", default=1)
    parser.add_argument(
        "--gpu-layers",
        type=layer_count,
        metavar="N",
        help="head and last N layers on the device, the others on its host",
    )
    parser.add_argument("--host", metavar="NAME", help="the CPU beside --hardware: what such a split costs in time")
    add_count(parser, "--graphs", "captured graphs")
    add_choice(parser, "--runtime", RUNTIMES, "cuda", "whose context, workspace and allocator are added")
    add_count(parser, "--threads", "of a CPU, each with its scratch", default=1)
    add_format(parser)


def layer_count(text: str) -> int:
    """A number of layers, 0 included."""
    return 0 if text.strip() == "0" else count("--gpu-layers")(text)


def answer(args: argparse.Namespace) -> Answer:
    """The fit; a row for each of several runs. Raises DoesNotFitError where nothing fits."""
    axes = [
        models(args),
        *axis(args, "dtype", "weight_dtype", "kv_dtype", "tensor_parallel"),
        [{"batch": batch} for batch in args.batch or [None]],
    ]
    return combined(args, _one, [*axes, _lengths(args)], _FOUND)


def _lengths(args: argparse.Namespace) -> list[dict[str, int | None]]:
    """Context and prompt of every run: two of --context, --prompt and --generate determine the third."""
    if args.generate is None:
        return [
            {"context": whole, "prompt": part} for whole, part in product(args.context or [None], args.prompt or [None])
        ]
    if not (args.context or args.prompt):
        raise InputError("--generate must come with --prompt or --context; there is neither; give one of them")
    return [{"context": prompt + made, "prompt": prompt} for prompt, made in run_lengths(args)]


def _one(args: argparse.Namespace) -> Answer:
    if args.free is not None:
        return cache_alone(args)
    _check_question(args)
    model, asked = _asked(args)
    holds: Holds = partial(needs, runtime=RUNTIMES[args.runtime], threads=args.threads)
    if args.solve == "device":
        return devices_answer(args, model, asked, holds)
    name, size = _space(args)
    usual = (
        "" if args.context and (args.batch or args.gpu_layers is not None) else "batch" if args.context else "context"
    )
    solve = args.solve or usual
    solved = _solved(solve, asked, size, holds)
    held = check_run_fits(solved, size, holds)
    return fitting_answer(args, model, name, size, solve, solved, held, holds)


def _check_question(args: argparse.Namespace) -> None:
    """Raise InputError where an option that the question needs is missing, and for an option that it does not use."""
    given = next((f"--{name}" for name in ("memory", "hardware") if getattr(args, name) is not None), None)
    if args.solve == "device" and given:
        raise InputError(f"--solve device looks for the memory; it must come without one; got {given}; leave it out")
    if args.solve != "device" and not given:
        raise InputError("--memory, --hardware or --free must be given; got none; see llamalab fit --help")
    if args.solve not in (None, "context") and args.context is None:
        raise InputError(f"--solve {args.solve} must come with --context; got none; try --context 4096")
    if args.host is not None and args.gpu_layers is None and args.solve != "gpu-layers":
        raise InputError("--host must come with --gpu-layers or --solve gpu-layers; got neither")


def _space(args: argparse.Namespace) -> tuple[str, int]:
    if args.memory is not None:
        return "memory", args.memory
    from llamalab.cli.devices import chosen_devices

    specs = chosen_devices(args.hardware)
    if len(specs) != 1:
        raise InputError(f"--hardware must name one device; got {len(specs)}; try --solve device in place of it")
    return specs[0].name, device_memory(specs[0])


def _asked(args: argparse.Namespace) -> tuple[str, FitRun]:
    stored = take_storage(args)
    model, arch = chosen_model(args)
    compute = args.dtype if args.dtype in FLOAT_DTYPES else "bf16"
    return model, FitRun(
        arch,
        args.context or 1,
        batch=args.batch or 1,
        prompt=args.prompt,
        chunk=args.chunk,
        dtype=compute,
        weight_dtype=args.weight_dtype or args.dtype,
        kv_dtype=args.kv_dtype or args.dtype,
        attention=args.attention,
        logits=args.logits,
        ranks=args.tensor_parallel,
        block_tokens=args.block_tokens,
        graphs=args.graphs or 0,
        gpu_layers=args.gpu_layers,
        **(_of_file(stored) if stored else {}),
    )


def _of_file(stored: StoredWeights) -> dict[str, Any]:
    return {
        "weight_bytes": stored.bytes,
        "layer_bytes": stored.layer_bytes,
        "embedding_bytes": stored.embedding_bytes,
    }


def _solved(solve: str, asked: FitRun, size: int, holds: Holds) -> FitRun:
    """The run with its solved setting; unchanged where nothing fits, so that its error states the missing bytes."""
    if solve == "batch":
        return asked._replace(batch=max(asked.batch, largest_batch(asked, size, holds)))
    if solve == "context":
        return asked._replace(context=max(1, largest_context(asked, size, holds)))
    if solve == "weights":
        own = asked._replace(weight_bytes=None, layer_bytes=(), embedding_bytes=0)  # instead of the file's storage
        return own._replace(weight_dtype=widest_weights(own, size, holds) or own.weight_dtype)
    if solve == "gpu-layers":
        return asked._replace(gpu_layers=most_gpu_layers(asked, size, holds))
    if solve == "ranks":
        return asked._replace(ranks=least_ranks(asked, size, holds) or asked.ranks)
    return asked
