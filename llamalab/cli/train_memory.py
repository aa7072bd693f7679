"""`llamalab train-memory`: memory and FLOPs of a training step, and the savings of recomputation."""

import argparse

from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import IMPLEMENTATIONS, TRAINED_WITH, Kept
from llamalab.analytic.training import RECOMPUTE, training_flops, training_memory
from llamalab.cli.arguments import (
    add_choice,
    add_counts,
    add_dtypes,
    add_format,
    add_model,
    add_shared,
    chosen_model,
)
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.delivery import give
from llamalab.cli.devices import chosen_devices
from llamalab.cli.output import Answer, Column, Table
from llamalab.cli.packing import add_packing, documents_of, said_of
from llamalab.cli.parser import Parser
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes, format_si
from llamalab.startup.hints import Any
from llamalab.units import FLOAT_DTYPES

SUMMARY = "memory and FLOPs of a training step, by recomputation level"
EXAMPLES = (
    "llamalab train-memory --model 7b --context 4096",
    "llamalab train-memory --model 70b --context 4096 --batch 2 --tensor-parallel 8 --recompute selective",
    "llamalab train-memory --model 7b --context 8192 --packing 16 --implementation fused",
)
_COLUMNS = (
    Column("recompute", "recompute"),
    Column("weight_bytes", "weights", format_bytes),
    Column("gradient_bytes", "gradients", format_bytes),
    Column("optimizer_bytes", "AdamW", format_bytes),
    Column("activation_bytes", "activations", format_bytes),
    Column("total_bytes", "total", format_bytes),
    Column("flops", "FLOPs a step", lambda value: format_si(value, "FLOP")),
    Column("chosen", "", lambda chosen: "<- chosen" if chosen else ""),
)
_SAVED = (
    Column("name", "kept by each block"),
    Column("bytes", "bytes", format_bytes),
    Column("inside_attention", "selective recomputes", lambda inside: "yes" if inside else ""),
)


def configure(parser: Parser) -> None:
    """The options of `llamalab train-memory`."""
    add_model(parser)
    add_counts(parser, "--context", "tokens in each sequence", default=4096)
    parser.rename("--seq", "--context")
    add_counts(parser, "--batch", "sequences in a step", default=1)
    add_dtypes(parser, "of weights, gradients and activations", known=FLOAT_DTYPES)
    add_choice(parser, "--attention", TRAINED_WITH, "flash", "the attention algorithm")
    add_choice(parser, "--implementation", IMPLEMENTATIONS, "llamalab", "whose operations keep what")
    add_choice(parser, "--recompute", RECOMPUTE, "none", "what the backward pass computes again")
    add_packing(parser)
    add_shared(parser)
    parser.add_argument("--hardware", help="refuse what does not fit into this device; exit code 3")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print every recomputation level; DoesNotFitError where the chosen one does not fit into --hardware."""
    give(answer(args), args)
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """Every recomputation level; a row for each of several steps. Raises DoesNotFitError where it does not fit."""
    return combined(
        args, _one, [models(args), *axis(args, "dtype", "tensor_parallel", "batch", "context")], _COLUMNS[1:-1]
    )


def _one(args: argparse.Namespace) -> Answer:
    model, arch = chosen_model(args)
    shape = PassShape(
        new_tokens=args.context,
        batch=args.batch,
        dtype=args.dtype,
        attention=args.attention,
        tensor_parallel=args.tensor_parallel,
    )
    documents = documents_of(args)
    rows = []
    for level in RECOMPUTE:
        memory = training_memory(arch, shape, recompute=level, implementation=args.implementation, documents=documents)
        flops = training_flops(arch, shape, recompute=level, documents=documents)
        rows.append(
            {"recompute": level, **memory._asdict(), "total_bytes": memory.total_bytes, "flops": flops.total}
            | {f"flops_{part}": count for part, count in flops._asdict().items()}
            | {"chosen": level == args.recompute}
        )
    chosen = next(row for row in rows if row["chosen"])
    if args.hardware is not None:
        _check_fits(args.hardware, chosen)
    kept = [item._asdict() for item in Kept(arch, shape, args.implementation, documents=documents).block()]
    inputs = {
        "context": args.context,
        "batch": args.batch,
        "attention": args.attention,
        "tensor_parallel": args.tensor_parallel,
        "dtype": args.dtype,
        "implementation": args.implementation,
        "documents": list(documents),
    }
    data = {"model": model, "inputs": inputs, "basis": "counted", **chosen}
    lead = (
        f"training {model} with AdamW, {args.batch} × {args.context} tokens, {args.dtype}, {args.attention} attention"
        f"{f', on each of {args.tensor_parallel} devices' if args.tensor_parallel > 1 else ''}",
        f"  {format_bytes(chosen['total_bytes'])} with recompute {args.recompute}, before buffers and fragmentation",
        *([f"  {words}"] if (words := said_of(args.context, documents)) else []),
    )
    data |= {"levels": rows, "kept_by_block": kept}
    return Answer(data, lead, (Table(_COLUMNS, rows), Table(_SAVED, kept)))


def _check_fits(hardware: str, chosen: dict[str, Any]) -> None:
    for spec in chosen_devices(hardware):
        room = spec.usable_memory_bytes
        short = 0 if room is None else chosen["total_bytes"] - room
        if room is not None and short > 0:
            raise DoesNotFitError(
                f"the step must fit into {spec.name}: it needs {format_bytes(chosen['total_bytes'])} of "
                f"{format_bytes(room)}, {format_bytes(short)} too much; "
                "try --recompute full, a smaller --batch or more --tensor-parallel"
            )
