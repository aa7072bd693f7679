"""The answer of `llamalab fit --free SIZE`: the KV cache alone, in memory that excludes all other terms."""

import argparse

from llamalab.analytic.memory import check_fits, room_free
from llamalab.analytic.parallel import rank_arch
from llamalab.cli.arguments import chosen_model
from llamalab.cli.output import Answer, Column, Table, counted, thousands
from llamalab.errors import InputError
from llamalab.formatting import format_bytes

_UNUSED = {  # options of a whole run, and their defaults
    **dict.fromkeys(("solve", "weight_dtype", "chunk", "gpu_layers", "host", "graphs")),
    **dict.fromkeys(("block_tokens", "threads"), 1),
    "attention": "flash",
    "logits": "last",
    "runtime": "cuda",
}


def cache_alone(args: argparse.Namespace) -> Answer:
    """Tokens that fit: the free bytes over those of a token."""
    if unused := next((name for name, usual in _UNUSED.items() if getattr(args, name) != usual), None):
        option = f"--{unused.replace('_', '-')}"
        raise InputError(f"--free is for the KV cache alone, which does not depend on {option}; leave one of them out")
    model, arch = chosen_model(args)
    kind = args.kv_dtype or args.dtype
    room = room_free(rank_arch(arch, args.tensor_parallel), args.free, kv_dtype=kind)
    left = check_fits(room, seq=args.context or 1, batch=args.batch or 1)
    data = {
        "model": model,
        "kv_dtype": kind,
        "n_kv_heads": arch.n_kv_heads,
        "memory_bytes": None,
        "weight_bytes": None,
        "free_bytes": room.free_bytes,
        "kv_bytes_per_token": room.kv_bytes_per_token,
        "context": args.context,
        "batch": args.batch,
        "max_tokens": room.tokens,
        "max_batch": room.largest_batch(args.context) if args.context else None,
        "max_context": room.largest_context(args.batch) if args.batch else None,
        "left_bytes": left,
        "basis": "exact; the KV cache alone",
    }
    if args.context:
        said = _fitting(args.batch or data["max_batch"], args.context)
    elif args.batch:
        said = _fitting(args.batch, data["max_context"])
    else:
        said = f"{room.tokens:,} cached tokens fit"
    lead = (
        f"{said} ({model}, KV cache in {kind}, {arch.n_kv_heads} KV heads)",
        f"  = {format_bytes(room.free_bytes)} free / {room.kv_bytes_per_token:,} bytes per token = {room.tokens:,} "
        "tokens; the KV cache alone",
    )
    columns = (
        Column("max_tokens", "tokens", thousands),
        Column("kv_bytes_per_token", "bytes per token", thousands),
        Column("free_bytes", "free", format_bytes),
    )
    return Answer(data, lead, (Table(columns, [data]),))


def _fitting(sequences: int, tokens: int) -> str:
    return f"{counted(sequences, 'sequence')} of {counted(tokens, 'token')} fit{'s' if sequences == 1 else ''}"
