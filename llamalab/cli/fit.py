"""`llamalab fit`: the largest batch, context or count of cached tokens that fits."""

import argparse
from typing import Any

from llamalab.analytic.memory import Room, check_fits, room_free, room_in
from llamalab.arch import LlamaArch
from llamalab.cli.arguments import (
    Parser,
    add_count,
    add_dtype,
    add_format,
    add_model,
    add_part_dtypes,
    chosen_model,
    memory,
)
from llamalab.cli.delivery import give
from llamalab.cli.output import Answer, Column, Table, thousands
from llamalab.units import format_bytes

SUMMARY = "largest batch or context that fits into a memory"
EXAMPLES = (
    "llamalab fit --memory 24GiB",
    "llamalab fit --memory 80GB --model 13b --context 4096",
    "llamalab fit --free 10GB --dtype fp16 --batch 4",
)
_COLUMNS = (
    Column("seq", "tokens each", thousands),
    Column("batch", "sequences", thousands),
    Column("kv_bytes", "KV cache", format_bytes),
    Column("left_bytes", "left", format_bytes),
)


def configure(parser: Parser) -> None:
    """The options of `llamalab fit`."""
    space = parser.add_mutually_exclusive_group(required=True)
    space.add_argument(
        "--memory", type=memory("--memory"), metavar="SIZE", help="for weights and KV cache, as 24GiB or 24GB"
    )
    space.add_argument(
        "--free", type=memory("--free"), metavar="SIZE", help="for the KV cache alone: the weights are in already"
    )
    add_count(parser, "--context", "tokens in each sequence: asks for the largest batch", dest="seq")
    parser.rename("--seq", "--context")
    add_count(parser, "--batch", "sequences: asks for the longest context; with --context, asks whether that fits")
    add_model(parser)
    add_dtype(parser, "storage of weights and KV cache")
    add_part_dtypes(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print what fits; DoesNotFitError (exit code 3) where nothing does."""
    give(answer(args), args)
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """What fits. Raises DoesNotFitError where nothing does."""
    model, arch = chosen_model(args)
    kv_dtype, weight_dtype = args.kv_dtype or args.dtype, args.weight_dtype or args.dtype
    if args.free is None:
        room = room_in(arch, args.memory, dtype=weight_dtype, kv_dtype=kv_dtype)
    else:
        room = room_free(arch, args.free, kv_dtype=kv_dtype)
    # One token of each sequence is the least that can be asked for.
    left = check_fits(room, seq=args.seq or 1, batch=args.batch or 1)
    data = _data(model, arch, args, room) | {"weight_dtype": weight_dtype, "kv_dtype": kv_dtype}
    if args.seq and args.batch:
        data["left_bytes"] = left
    return Answer(data, _lead(data), (Table(_COLUMNS, _rows(room, args.seq, args.batch, arch)),))


def _data(model: str, arch: LlamaArch, args: argparse.Namespace, room: Room) -> dict[str, Any]:
    return {
        "model": model,
        "dtype": args.dtype,
        "n_kv_heads": arch.n_kv_heads,
        "memory_bytes": args.memory,
        "weight_bytes": room.weight_bytes,
        "free_bytes": room.free_bytes,
        "kv_bytes_per_token": room.kv_bytes_per_token,
        "window": arch.window,
        "seq": args.seq,
        "batch": args.batch,
        "max_tokens": room.tokens,
        "max_batch": room.largest_batch(args.seq) if args.seq else None,
        "max_seq": room.largest_context(args.batch) if args.batch else None,
        "basis": "exact; activations and the runtime are not counted",
    }


def _lead(data: dict[str, Any]) -> tuple[str, ...]:
    seq, batch, tokens = data["seq"], data["batch"], data["max_tokens"]
    if seq and batch:
        answer = f"{batch:,} sequences of {seq:,} tokens fit, {format_bytes(data['left_bytes'])} is left"
    elif seq:
        answer = f"{data['max_batch']:,} sequences of {seq:,} tokens fit"
    elif batch:
        answer = f"{batch:,} sequences of {_tokens(data['max_seq'])} fit"
    else:
        answer = f"{_tokens(tokens, 'cached ')} fit"
    free, each = data["free_bytes"], data["kv_bytes_per_token"]
    weights = data["weight_bytes"]
    beside = f" beside the {data['weight_dtype']} weights ({format_bytes(weights)})" if weights else ""
    if data["window"] is None:
        share = f" / {each:,} bytes per token = {tokens:,} tokens"
    else:
        share = f", {each:,} bytes per token until layers with a window are full, at {data['window']:,}"
    return (
        f"{answer} ({data['model']}, KV cache in {data['kv_dtype']}, {data['n_kv_heads']} KV heads)",
        f"  = {format_bytes(free)} free ({free:,} bytes){beside}{share}",
        "  activations and the runtime need memory too and are not counted",
    )


def _tokens(number: int | None, kind: str = "") -> str:
    return f"{'any number of' if number is None else f'{number:,}'} {kind}tokens"


def _rows(room: Room, seq: int | None, batch: int | None, arch: LlamaArch) -> list[dict[str, int]]:
    """The answer's own row, or ways to share the tokens out where none was asked for."""
    if seq:
        pairs = [(seq, batch or room.largest_batch(seq))]
    elif batch:
        pairs = [(room.largest_context(batch) or arch.max_positions, batch)]
    else:
        most = room.tokens or arch.max_positions
        lengths = [arch.max_positions >> halvings for halvings in range(4)]
        pairs = [(most, 1), *((one, room.largest_batch(one)) for one in lengths if 1 <= one < most)]
    return [_row(room, one_seq, one_batch) for one_seq, one_batch in pairs]


def _row(room: Room, seq: int, batch: int) -> dict[str, int]:
    used = room.kv_bytes(seq, batch)
    return {"seq": seq, "batch": batch, "kv_bytes": used, "left_bytes": room.free_bytes - used}
