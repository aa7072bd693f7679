"""`llamalab kv`: the size of the KV cache, and the savings of fewer KV heads."""

import argparse

from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token, kv_variants
from llamalab.analytic.parallel import rank_arch, shard
from llamalab.analytic.weight_storage import bytes_on_rank, stored_weight_bytes
from llamalab.arch import LlamaArch, attention_kind
from llamalab.cli.arguments import (
    add_counts,
    add_dtypes,
    add_format,
    add_model,
    add_part_dtypes,
    add_shared,
    chosen_model,
)
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.find_model import take_storage
from llamalab.cli.lengths import held_lengths
from llamalab.cli.output import Answer, Column, Table, counted, note, percent, thousands
from llamalab.cli.parser import Parser
from llamalab.formatting import format_bytes, format_ratio
from llamalab.hardware import smallest_holding
from llamalab.startup.hints import Any
from llamalab.units import dtype_bits

SUMMARY = "size of the KV cache, under MHA, GQA and MQA"
EXAMPLES = (
    "llamalab kv --context 4096 --batch 16",
    "llamalab kv --model 70b --context 1k-64k*4 --batch 1,64 --kv-dtype int8",
    "llamalab kv --model 7b --kv-heads 8 --format json",
)


def configure(parser: Parser) -> None:
    """The options of `llamalab kv`."""
    add_model(parser)
    about = "tokens in each sequence, as 4096, 4_096, 4k, 1k,2k or 1k-8k*2 (default: 4096)"
    add_counts(parser, "--context", about, default=None)
    parser.rename("--seq", "--context")
    add_counts(parser, "--prompt", "with --generate, in place of --context: prompt tokens", default=None)
    add_counts(parser, "--generate", "and tokens after them, which are as many in the cache", default=None)
    add_counts(parser, "--batch", "sequences", default=1)
    add_shared(parser)
    add_dtypes(parser, "storage of the cache, and of the weights it is compared with")
    add_part_dtypes(parser)
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The cache at one length and batch under every number of KV heads; at several, a row for each."""
    axes = [models(args), *axis(args, "dtype", "weight_dtype", "kv_dtype", "tensor_parallel", "batch")]
    lengths = [{"context": tokens} for tokens in held_lengths(args, 4096)]
    return combined(args, _answer, [*axes, lengths], _SIZES)


_SIZES = (Column("kv_bytes", "KV cache", format_bytes), Column("kv_bytes", "bytes", thousands))


def _answer(args: argparse.Namespace) -> Answer:
    model, arch = chosen_model(args)
    if args.context > arch.max_positions:
        note(
            f"{model} was trained for {arch.max_positions:,} positions; {args.context:,} tokens is beyond them",
            once=True,
        )
    stored, ranks = take_storage(args), args.tensor_parallel
    dtype, kind = args.kv_dtype or args.dtype, stored.kind if stored else args.weight_dtype or args.dtype
    part = shard(arch, ranks)
    size = bytes_on_rank(arch, stored.bytes, part) if stored else stored_weight_bytes(arch, args.dtype, kind, part)
    own = arch if ranks == 1 else rank_arch(arch, ranks)
    return _one(model, own, args.context, args.batch, dtype, (kind, size), ranks)


def _one(
    model: str, arch: LlamaArch, context: int, batch: int, dtype: str, held: tuple[str, int], ranks: int
) -> Answer:
    variants = kv_variants(arch, seq=context, batch=batch, dtype=dtype)
    data = {
        "model": model,
        "dtype": dtype,
        "attention": attention_kind(arch.n_heads, arch.n_kv_heads),
        "n_kv_heads": arch.n_kv_heads,
        "context": context,
        "batch": batch,
        "tensor_parallel": ranks,
        "kv_bytes": kv_bytes(arch, seq=context, batch=batch, dtype=dtype),
        "kv_bytes_per_token": kv_bytes_per_token(arch, dtype),
        "kv_bytes_per_sequence": kv_bytes(arch, seq=context, dtype=dtype),
        "weight_bytes": held[1],
        "basis": "exact",
        "variants": [variant._asdict() for variant in variants],
    }
    rows = [
        {"model": model, "dtype": dtype, "context": context, "batch": batch, **variant._asdict()}
        | {"share": variant.kv_bytes / variants[0].kv_bytes, "own": variant.n_kv_heads == arch.n_kv_heads}
        for variant in variants
    ]
    columns = (
        Column("attention", "attention"),
        Column("n_kv_heads", "KV heads"),
        Column("kv_bytes", "KV cache", format_bytes),
        Column("kv_bytes", "bytes", thousands, 1),
        Column("share", "of MHA", percent),
        Column("own", "", lambda own: "<- this model" if own else "", -1),
    )
    return Answer(data, _lead(arch, data, held[0]), (Table(columns, rows),))


def _lead(arch: LlamaArch, data: dict[str, Any], weight_dtype: str) -> tuple[str, ...]:
    context, batch, dtype, ranks = data["context"], data["batch"], data["dtype"], data["tensor_parallel"]
    sequences = counted(batch, "sequence")
    where = f", on each of {ranks} devices" if ranks > 1 else ""
    size, weights = data["kv_bytes"], data["weight_bytes"]
    element = f"{dtype_bits(dtype) / 8:g}"
    # Tokens kept, summed over layers: a layer with a window keeps no more tokens than the window has.
    kept = sum(layers * min(context, window or context) for window, layers in arch.windows)
    alike = kept == arch.n_layers * context
    factors: tuple[object, ...] = (2, arch.n_layers, arch.n_kv_heads, arch.head_dim, context, batch, element)
    factors = factors if alike else (2, kept, arch.n_kv_heads, arch.head_dim, batch, element)
    layers = " + ".join(
        f"{layers} layers × {min(context, window or context)} tokens" for window, layers in arch.windows
    )
    return (
        f"KV cache of {data['model']} in {dtype}, {data['attention']}: {format_bytes(size)} ({size:,} bytes)"
        f"{where}, exact",
        f"  = 2 (K,V) × {arch.n_layers} layers × {arch.n_kv_heads} KV heads × {arch.head_dim} head dim"
        f" × {context} tokens × {sequences} × {element} B"
        if alike
        else f"  = 2 (K,V) × ({layers}) × {arch.n_kv_heads} KV heads × {arch.head_dim} head dim"
        f" × {sequences} × {element} B",
        f"  per token {format_bytes(data['kv_bytes_per_token'])}"
        f" · per sequence {format_bytes(data['kv_bytes_per_sequence'])}"
        f" · {format_ratio(size / weights)} × the {weight_dtype} weights ({format_bytes(weights)})",
        f"  with the weights {format_bytes(size + weights)}, before activations: {_device(size + weights)}",
        f'  verify: python3 -c "print({"*".join(map(str, factors))})"',
    )


def _device(needed: int) -> str:
    spec = smallest_holding(needed)
    if spec is None:
        return "more than any device of llamalab hardware holds"
    return f"smallest device that holds both: {spec.name} ({format_bytes(spec.usable_memory_bytes or 0)})"
