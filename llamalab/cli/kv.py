"""`llamalab kv`: the size of the KV cache, and what fewer KV heads would save."""

import argparse
from typing import Any

from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token, kv_variants
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch, attention_kind
from llamalab.cli.arguments import add_count, add_dtype, add_format, add_model, chosen_model
from llamalab.cli.output import Answer, Column, Table, note, percent, show, thousands
from llamalab.hardware import smallest_holding
from llamalab.units import dtype_bits, format_bytes

SUMMARY = "size of the KV cache, under MHA, GQA and MQA"
EXAMPLES = (
    "llamalab kv --seq 4096 --batch 16",
    "llamalab kv --model 70b --seq 1k --batch 64 --dtype int8",
    "llamalab kv --model 7b --kv-heads 8 --format json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab kv`."""
    add_model(parser)
    add_count(parser, "--seq", "tokens in each sequence, as 4096, 4_096 or 4k", default=4096)
    add_count(parser, "--batch", "sequences", default=1)
    add_dtype(parser, "storage of the cache, and of the weights it is compared with")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the cache's size for the chosen model and for every other number of KV heads."""
    model, arch = chosen_model(args)
    if args.seq > arch.max_positions:
        note(f"{model} was trained for {arch.max_positions:,} positions; {args.seq:,} tokens is beyond them")
    show(_answer(model, arch, args.seq, args.batch, args.dtype), args.format)
    return 0


def _answer(model: str, arch: LlamaArch, seq: int, batch: int, dtype: str) -> Answer:
    variants = kv_variants(arch, seq=seq, batch=batch, dtype=dtype)
    data = {
        "model": model,
        "dtype": dtype,
        "attention": attention_kind(arch.n_heads, arch.n_kv_heads),
        "n_kv_heads": arch.n_kv_heads,
        "seq": seq,
        "batch": batch,
        "kv_bytes": kv_bytes(arch, seq=seq, batch=batch, dtype=dtype),
        "kv_bytes_per_token": kv_bytes_per_token(arch, dtype),
        "kv_bytes_per_sequence": kv_bytes(arch, seq=seq, dtype=dtype),
        "weight_bytes": weight_bytes(arch, dtype),
        "basis": "exact",
        "variants": [variant._asdict() for variant in variants],
    }
    rows = [
        {"model": model, "dtype": dtype, "seq": seq, "batch": batch, **variant._asdict()}
        | {"share": variant.kv_bytes / variants[0].kv_bytes, "own": variant.n_kv_heads == arch.n_kv_heads}
        for variant in variants
    ]
    columns = (
        Column("attention", "attention"),
        Column("n_kv_heads", "KV heads"),
        Column("kv_bytes", "KV cache", format_bytes),
        Column("kv_bytes", "bytes", thousands),
        Column("share", "of MHA", percent),
        Column("own", "", lambda own: "<- this model" if own else ""),
    )
    return Answer(data, _lead(arch, data), (Table(columns, rows),))


def _lead(arch: LlamaArch, data: dict[str, Any]) -> tuple[str, ...]:
    seq, batch, dtype = data["seq"], data["batch"], data["dtype"]
    size, weights = data["kv_bytes"], data["weight_bytes"]
    element = f"{dtype_bits(dtype) / 8:g}"
    # Tokens that are kept, of all layers: a layer with a window keeps no more than it sees.
    kept = sum(layers * min(seq, window or seq) for window, layers in arch.windows)
    alike = kept == arch.n_layers * seq
    factors: tuple[object, ...] = (2, arch.n_layers, arch.n_kv_heads, arch.head_dim, seq, batch, element)
    factors = factors if alike else (2, kept, arch.n_kv_heads, arch.head_dim, batch, element)
    layers = " + ".join(f"{layers} layers × {min(seq, window or seq)} tokens" for window, layers in arch.windows)
    return (
        f"KV cache of {data['model']} in {dtype}, {data['attention']}: {format_bytes(size)} ({size:,} bytes), exact",
        f"  = 2 (K,V) × {arch.n_layers} layers × {arch.n_kv_heads} KV heads × {arch.head_dim} head dim"
        f" × {seq} tokens × {batch} sequences × {element} B"
        if alike
        else f"  = 2 (K,V) × ({layers}) × {arch.n_kv_heads} KV heads × {arch.head_dim} head dim"
        f" × {batch} sequences × {element} B",
        f"  per token {format_bytes(data['kv_bytes_per_token'])}"
        f" · per sequence {format_bytes(data['kv_bytes_per_sequence'])}"
        f" · {size / weights:.2f} × the {dtype} weights ({format_bytes(weights)})",
        f"  with the weights {format_bytes(size + weights)}, before activations: {_device(size + weights)}",
        f'  verify: python3 -c "print({"*".join(map(str, factors))})"',
    )


def _device(needed: int) -> str:
    spec = smallest_holding(needed)
    if spec is None:
        return "more than any device of llamalab hardware holds"
    return f"smallest device that holds both: {spec.name} ({format_bytes(spec.usable_memory_bytes or 0)})"
