"""`llamalab compare-hardware`: devices, and numbers of them, ranked by their speed for a run."""

import argparse

from llamalab.analytic.splits import Split
from llamalab.cli.arguments import add_choice, add_format
from llamalab.cli.combinations import with_formats
from llamalab.cli.output import Answer, Column, Table
from llamalab.cli.parser import Parser
from llamalab.cli.runs import add_basis, add_hardware, add_models, add_numbers, add_ranks, add_shape, add_splits
from llamalab.cli.sweep import sweep
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes, format_rate, format_seconds
from llamalab.startup.hints import Any

SUMMARY = "devices and device counts ranked by latency and throughput, and what fits"
EXAMPLES = (
    "llamalab compare-hardware --model 70b --prompt 2048 --generate 256",
    "llamalab compare-hardware --model 7b --batch 32 --by throughput",
    "llamalab compare-hardware --model 70b --weight-dtype fp8 --kv-dtype fp8 --hardware h100-80gb-sxm,h200",
)
_ORDERS = {
    "latency": lambda row: row["total_s"],
    "throughput": lambda row: -row["tokens_per_s"],
    "efficiency": lambda row: -row["tokens_per_s_per_device"],
}


_COLUMNS = (
    Column("rank", "rank"),
    Column("hardware", "hardware"),
    Column("devices", "devices"),
    Column("split", "split", rank=3),
    Column("batch", "batch", rank=2),
    Column("prefill_s", "prefill", format_seconds, 1),
    Column("decode_s_per_token", "per token", format_seconds, 1),
    Column("total_s", "run", format_seconds),
    Column("tokens_per_s", "tokens/s", format_rate),
    Column("tokens_per_s_per_device", "per device", format_rate, 3),
    Column("needed_bytes", "memory each", format_bytes, 2),
    Column("basis", "basis", rank=4),
)
_REFUSED = (
    Column("hardware", "not ranked"),
    Column("devices", "devices"),
    Column("split", "split", rank=1),
    Column("batch", "batch"),
    Column("reason", "why"),
)


def configure(parser: Parser) -> None:
    """The options of `llamalab compare-hardware`."""
    add_models(parser)
    add_hardware(parser, "all")
    add_shape(parser, generate=256)
    add_ranks(parser, "1,2,4,8")
    add_splits(parser)
    add_numbers(parser)
    add_basis(parser)
    add_choice(parser, "--by", _ORDERS, "latency", "what ranks first")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The ranking, then devices without one. Raises DoesNotFitError where no device holds the run."""
    ranked, refused = [], []
    for row in sweep(args):
        split = Split(*(row[name] for name in ("tensor_parallel", "pipeline_parallel", "context_parallel", "replicas")))
        row |= {"devices": split.devices, "split": str(split)}
        if row["total_s"] is None:
            refused.append(row)
        else:
            ranked.append(row | {"tokens_per_s_per_device": row["tokens_per_s"] / split.devices})
    if not ranked:
        raise DoesNotFitError(f"at least one device must hold the run; none does: {refused[0]['reason']}")
    ranked.sort(key=_ORDERS[args.by])
    rows: list[dict[str, Any]] = [{"rank": place, **row} for place, row in enumerate(ranked, 1)]
    best = rows[0]
    assumed = () if args.stack else sorted({row["stack"] for row in rows} - {None})
    lead = (
        f"{args.model}: {best['prompt']} + {best['generate']} tokens, by {args.by}",
        f"  first: {best['devices']} × {best['hardware']}, {format_seconds(best['total_s'])} a run "
        f"({format_seconds(best['low_s'])} to {format_seconds(best['high_s'] or best['total_s'])}), "
        f"{format_rate(best['tokens_per_s'])} tokens/s",
        *([f"  stack: {', '.join(assumed)} assumed, see --stack"] if assumed else []),
    )
    tables = (Table(with_formats(_COLUMNS, rows, "batch"), rows), *([Table(_REFUSED, refused)] if refused else []))
    return Answer({"by": args.by, "ranked": rows, "not_ranked": refused}, lead, tables)
