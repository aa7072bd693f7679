"""`llamalab taps`: the tap points of the model, with the size of each tensor."""

import argparse
from math import prod

from llamalab.arch import LlamaArch
from llamalab.cli.arguments import add_counts, add_dtypes, add_format
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.find_model import find_model
from llamalab.cli.output import Answer, Column, Table
from llamalab.cli.parser import Parser
from llamalab.errors import InputError
from llamalab.formatting import format_bytes
from llamalab.instrument.points import POINTS, Point, points_of
from llamalab.startup.hints import Any
from llamalab.units import storage_bytes

SUMMARY = "the points at which a model can be tapped, with their shapes"
EXAMPLES = (
    "llamalab taps",
    "llamalab taps --model 7b --prompt 512-4096*2",
    "llamalab taps --model 7b --prompt 1 --context 4096 --format csv",
)
LETTERS = "B batch, T new tokens, S keys in view, D dim, H query heads, K KV heads, E head dim, F ffn dim, V vocabulary"


def configure(parser: Parser) -> None:
    """The options of `llamalab taps`."""
    parser.add_argument("--model", help="show sizes for a preset, a JSON file or a checkpoint")
    add_counts(parser, "--prompt", "new tokens of the pass (default: 512)", default=None)
    parser.rename("--seq", "--prompt")
    about = "tokens in view, the new ones included (default: as --prompt)"
    add_counts(parser, "--context", about, default=None)
    add_counts(parser, "--batch", "sequences (default: 1)", default=None)
    add_dtypes(parser, "of the activations; logits are always fp32")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """Every point, with sizes where a model is named; of several passes the bytes of each."""
    if args.model is None:
        sizes_asked = [f"--{name}" for name in ("prompt", "context", "batch") if getattr(args, name) is not None]
        if sizes_asked:
            raise InputError(f"{sizes_asked[0]} must come with --model, whose sizes it is for; there is none")
        rows = [_row(point) for point in POINTS]
        per_layer = sum("*" in point.name for point in POINTS)
        lead = (
            f"{per_layer} points in each layer (* is its number) and {len(POINTS) - per_layer} around them",
            "q_norm and k_norm are there in models with qk_norm alone",
            LETTERS,
        )
        return Answer({"points": rows}, lead, (Table(_COLUMNS, rows),))
    return combined(args, _sized_points, [models(args), *axis(args, "dtype", "batch", "prompt", "context")], _PASSES)


def _sized_points(args: argparse.Namespace) -> Answer:
    name, arch = find_model(args.model)
    sizes = letter_sizes(arch, batch=args.batch or 1, new_tokens=args.prompt or 512, context_tokens=args.context)
    rows = [_sized(point, sizes, args.dtype) for point in points_of(arch)]
    given = ", ".join(f"{letter} {size:,}" for letter, size in sizes.items())
    title = (f"{name}, {arch.n_layers} layers, {args.dtype}: {given}",)
    everywhere = sum(row["bytes"] * (arch.n_layers if "*" in row["point"] else 1) for row in rows)
    data = {"model": name, "n_layers": arch.n_layers, "dtype": args.dtype, "total_bytes": everywhere}
    data |= {"largest_bytes": max(row["bytes"] for row in rows), "sizes": sizes, "points": rows}
    return Answer(data, title, (Table((*_COLUMNS, *_SIZES), rows),))


_COLUMNS = (Column("point", "point"), Column("shape", "shape"), Column("op", "operation"))
_SIZES = (Column("sizes", "size"), Column("bytes", "bytes", format_bytes))
_PASSES = (
    Column("total_bytes", "all points", format_bytes),
    Column("largest_bytes", "the largest", format_bytes),
)


def letter_sizes(arch: LlamaArch, *, batch: int, new_tokens: int, context_tokens: int | None = None) -> dict[str, int]:
    """The size of each letter of a shape in one pass. Raises InputError for a context below the new tokens.

    >>> from llamalab.presets import PRESETS
    >>> letter_sizes(PRESETS["70b"].arch, batch=1, new_tokens=1, context_tokens=9)["K"]
    8
    """
    context = new_tokens if context_tokens is None else context_tokens
    if context < new_tokens:
        raise InputError(f"context must count the new tokens, {new_tokens}; got {context}")
    return {
        "B": batch,
        "T": new_tokens,
        "S": context,
        "D": arch.dim,
        "H": arch.n_heads,
        "K": arch.n_kv_heads,
        "E": arch.head_dim,
        "F": arch.ffn_dim,
        "V": arch.vocab_size,
    }


def _row(point: Point) -> dict[str, Any]:
    return {"point": point.name, "shape": point.shape, "op": point.op, "needs": point.needs or None}


def _sized(point: Point, sizes: dict[str, int], dtype: str) -> dict[str, Any]:
    shape = [sizes[letter] for letter in point.shape]
    stored = "fp32" if point.name == "logits" else dtype
    return _row(point) | {"sizes": " × ".join(map(str, shape)), "bytes": storage_bytes(prod(shape), stored)}
