"""`llamalab kv`: the size of the KV cache, and what fewer KV heads would save."""

import argparse

from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token, kv_variants
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch, attention_kind
from llamalab.cli.arguments import Parser, add_counts, add_dtype, add_format, add_model, add_part_dtypes, chosen_model
from llamalab.cli.delivery import give
from llamalab.cli.find_model import take_storage
from llamalab.cli.output import Answer, Column, Table, note, percent, thousands
from llamalab.device_sheet import smallest_holding
from llamalab.hints import Any
from llamalab.units import dtype_bits, format_bytes, format_ratio

SUMMARY = "size of the KV cache, under MHA, GQA and MQA"
EXAMPLES = (
    "llamalab kv --context 4096 --batch 16",
    "llamalab kv --model 70b --context 1k-64k*4 --batch 1,64 --kv-dtype int8",
    "llamalab kv --model 7b --kv-heads 8 --format json",
)


def configure(parser: Parser) -> None:
    """The options of `llamalab kv`."""
    add_model(parser)
    add_counts(parser, "--context", "tokens in each sequence, as 4096, 4_096, 4k, 1k,2k or 1k-8k*2", default=4096)
    parser.rename("--seq", "--context")
    add_counts(parser, "--batch", "sequences", default=1)
    add_dtype(parser, "storage of the cache, and of the weights it is compared with")
    add_part_dtypes(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the cache's size for the chosen model and for every other number of KV heads."""
    give(answer(args), args)
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """The cache at one length and batch under every number of KV heads; at several, a row for each."""
    model, arch = chosen_model(args)
    longest = max(args.context)
    if longest > arch.max_positions:
        note(f"{model} was trained for {arch.max_positions:,} positions; {longest:,} tokens is beyond them")
    stored = take_storage(args)
    dtype, weight_dtype = args.kv_dtype or args.dtype, args.weight_dtype or args.dtype
    if len(args.context) == len(args.batch) == 1:
        size = stored.bytes if stored else weight_bytes(arch, weight_dtype)
        return _one(model, arch, args.context[0], args.batch[0], dtype, (stored.kind if stored else weight_dtype, size))
    return _sweep(model, arch, args.context, args.batch, dtype)


def _sweep(model: str, arch: LlamaArch, lengths: list[int], batches: list[int], dtype: str) -> Answer:
    rows: list[dict[str, Any]] = [
        {"model": model, "dtype": dtype, "n_kv_heads": arch.n_kv_heads, "seq": seq, "batch": batch}
        | {"kv_bytes": kv_bytes(arch, seq=seq, batch=batch, dtype=dtype)}
        for batch in batches
        for seq in lengths
    ]
    least, most = (format_bytes(pick(row["kv_bytes"] for row in rows)) for pick in (min, max))
    lead = (f"KV cache of {model} in {dtype}: {least} to {most}, exact",)
    columns = (
        Column("seq", "tokens", thousands),
        Column("batch", "sequences", thousands),
        Column("kv_bytes", "KV cache", format_bytes),
        Column("kv_bytes", "bytes", thousands),
    )
    return Answer({"model": model, "dtype": dtype, "basis": "exact", "rows": rows}, lead, (Table(columns, rows),))


def _one(model: str, arch: LlamaArch, seq: int, batch: int, dtype: str, held: tuple[str, int]) -> Answer:
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
        "weight_bytes": held[1],
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
        Column("kv_bytes", "bytes", thousands, 1),
        Column("share", "of MHA", percent),
        Column("own", "", lambda own: "<- this model" if own else "", -1),
    )
    return Answer(data, _lead(arch, data, held[0]), (Table(columns, rows),))


def _lead(arch: LlamaArch, data: dict[str, Any], weight_dtype: str) -> tuple[str, ...]:
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
        f" · {format_ratio(size / weights)} × the {weight_dtype} weights ({format_bytes(weights)})",
        f"  with the weights {format_bytes(size + weights)}, before activations: {_device(size + weights)}",
        f'  verify: python3 -c "print({"*".join(map(str, factors))})"',
    )


def _device(needed: int) -> str:
    spec = smallest_holding(needed)
    if spec is None:
        return "more than any device of llamalab hardware holds"
    return f"smallest device that holds both: {spec.name} ({format_bytes(spec.usable_memory_bytes or 0)})"
