"""`llamalab plan`: splits of a model over devices, ranked, with the reason against each one that is not the best."""

import argparse

from llamalab.analytic.constants import choose
from llamalab.analytic.ops import ALGORITHMS
from llamalab.analytic.plan import Goals, Planned, plan
from llamalab.analytic.workload import Workload
from llamalab.cli.arguments import (
    MODEL_HELP,
    add_choice,
    add_count,
    add_counts,
    add_dtypes,
    add_format,
    add_part_dtypes,
    bytes_of_option,
)
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.devices import one_device
from llamalab.cli.find_model import find_model, short_name
from llamalab.cli.lengths import add_lengths, run_lengths
from llamalab.cli.output import Answer, Column, Table, percent
from llamalab.cli.parser import Parser
from llamalab.errors import DoesNotFitError, InputError
from llamalab.formatting import format_bytes, format_rate, format_seconds
from llamalab.hardware import HardwareSpec
from llamalab.hardware.links import LINKS, find_link
from llamalab.startup.hints import Any

SUMMARY = "the ways to split a model over devices, ranked, with why each other one loses"
EXAMPLES = (
    "llamalab plan --model 70b --memory 80GB --devices 8 --slo ttft=0.5,tpot=0.03",
    "llamalab plan --model 70b --hardware a100-80gb-sxm --devices 4 --batch 16 --link pcie4",
)
GOALS = ("ttft", "tpot")
_COLUMNS = (
    Column("rank", "rank"),
    Column("split", "split"),
    Column("needed_bytes", "memory each", format_bytes, 1),
    Column("ttft_s", "TTFT", format_seconds),
    Column("tpot_s", "TPOT", format_seconds),
    Column("tokens_per_s", "tokens/s", format_rate),
    Column("communication_share", "sending", percent, 2),
    Column("bubble_share", "idle", percent, 2),
    Column("why", "why not"),
)


_FIRST = tuple(column for column in _COLUMNS if column.key in ("split", "ttft_s", "tpot_s", "tokens_per_s"))


def configure(parser: Parser) -> None:
    """The options of `llamalab plan`."""
    parser.add_argument("--model", default="70b", help=MODEL_HELP)
    parser.add_argument("--hardware", default="h100-80gb-sxm", help="the device (default: %(default)s)")
    parser.add_argument(
        "--memory", type=bytes_of_option("--memory"), metavar="SIZE", help="of each device (default: the data sheet's)"
    )
    add_count(parser, "--devices", "how many there are", default=8)
    parser.add_argument(
        "--slo",
        type=goals,
        default=Goals(),
        metavar="ttft=S,tpot=S",
        help="the longest seconds to the first token and between tokens (default: any)",
    )
    parser.add_argument(
        "--link", metavar="NAME", help=f"between devices: {', '.join(LINKS)} (default: the device's own)"
    )
    add_lengths(parser, prompt=2048, generate=128)
    add_counts(parser, "--batch", "sequences at a time", default=8)
    add_choice(parser, "--attention", ALGORITHMS, "flash", "the attention algorithm")
    add_dtypes(parser, "of weights, activations and KV cache")
    add_part_dtypes(parser)
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """Every split with its times and the reason against it; for several runs the best of each.

    Raises DoesNotFitError where none can be run.
    """
    lengths = [{"prompt": prompt, "generate": generate} for prompt, generate in run_lengths(args)]
    return combined(
        args, _one, [models(args), *axis(args, "dtype", "weight_dtype", "kv_dtype", "batch"), lengths], _FIRST
    )


def _one(args: argparse.Namespace) -> Answer:
    name, arch = find_model(args.model)
    spec = _device(args)
    work = Workload(
        prompt=args.prompt,
        generate=args.generate,
        batch=args.batch,
        dtype=args.dtype,
        weight_dtype=args.weight_dtype,
        kv_dtype=args.kv_dtype,
        attention=args.attention,
    )
    basis = choose(spec, "shipped", args.dtype, args.weight_dtype)
    room = args.memory or spec.usable_memory_bytes or spec.memory_bytes
    found = plan(arch, work, args.devices, room_bytes=room, basis=basis, goals=args.slo)
    if all(one.tokens_per_s is None for one in found):
        what = f"{short_name(args.model)} over {args.devices} × {spec.name}"
        raise DoesNotFitError(f"a split of {what} must fit; none does: {_nearest(found)}")
    rows = [_row(place, one) for place, one in enumerate(found, 1)]
    lead = (
        f"{short_name(name)}, {args.batch} × ({args.prompt} + {args.generate}) tokens on {args.devices} × {spec.name}, "
        f"link {spec.interconnect or 'of its own'}; constants {basis.basis}:",
        f"  {_first(found[0])}",
    )
    data = {"basis": "predicted", "devices": args.devices, "hardware": spec.name, "goals": args.slo._asdict()}
    data |= {key: rows[0][key] for key in ("split", "ttft_s", "tpot_s", "tokens_per_s", "why")}
    return Answer(data | {"splits": rows}, lead, (Table(_COLUMNS, rows),))


def _nearest(found: list[Planned]) -> str:
    """The reason against the split with the least memory, or, where none divides the model, against the first."""
    tried = [one for one in found if one.needed_bytes is not None]
    if not tried:
        return found[0].why
    least = min(tried, key=lambda one: one.needed_bytes or 0)
    return f"{least.split} {least.why}; take more devices, fewer sequences or a narrower --weight-dtype"


def _first(best: Planned) -> str:
    words = f"{best.split}: {format_rate(best.tokens_per_s or 0.0)} tokens/s, TTFT {format_seconds(best.ttft_s or 0.0)}"
    words += "" if best.tpot_s is None else f", TPOT {format_seconds(best.tpot_s)}"
    return f"first: {words}" if best.holds else f"no split holds the goals; the fastest is {words}, {best.why}"


def _row(place: int, one: Planned) -> dict[str, Any]:
    split = one.split._asdict()
    return {"rank": place, **one._asdict(), "split": str(one.split), **split}


def _device(args: argparse.Namespace) -> HardwareSpec:
    spec = one_device(args.hardware, args.dtype)
    if args.link is not None:
        link = find_link(args.link)
        spec = spec._replace(interconnect=link.title, interconnect_bytes_per_s=link.bytes_per_s)
    if args.devices > 1 and not spec.interconnect_bytes_per_s:
        raise InputError(f"a plan over several devices must know their link; {spec.name} has none; give --link")
    return spec


def goals(text: str) -> Goals:
    """An argparse type: ttft=0.5,tpot=0.03.

    >>> goals("ttft=0.5,tpot=0.03")
    Goals(ttft_s=0.5, tpot_s=0.03)
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if name not in GOALS or not equals or not 0 < seconds < float("inf"):
            message = f"--slo must be ttft=SECONDS,tpot=SECONDS, or one of them; got {text!r}"
            raise argparse.ArgumentTypeError(message)
        found[f"{name}_s"] = seconds
    return Goals(**found)
