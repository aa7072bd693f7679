"""`llamalab models`: the presets."""

import argparse

from llamalab.analytic.kv_cache import kv_bytes_per_token
from llamalab.analytic.params import parameter_count, weight_bytes
from llamalab.arch import ALWAYS_STORED, LlamaArch
from llamalab.arch.runnable import model_refusal
from llamalab.cli.arguments import add_dtypes, add_format
from llamalab.cli.combinations import with_formats
from llamalab.cli.output import Answer, Column, Table, thousands
from llamalab.formatting import format_bytes
from llamalab.presets import PRESETS
from llamalab.startup.hints import Any

SUMMARY = "the known models and their sizes"
EXAMPLES = ("llamalab models", "llamalab models --dtype int8", "llamalab models --format csv")

_COLUMNS = (
    Column("model", "model"),
    Column("parameters", "parameters", thousands),
    Column("dim", "dim", rank=1),
    Column("n_layers", "layers"),
    Column("n_heads", "heads", rank=2),
    Column("n_kv_heads", "KV heads"),
    Column("ffn_dim", "FFN", rank=2),
    Column("vocab_size", "vocab", rank=2),
    Column("max_positions", "context"),
    Column("weight_bytes", "weights", format_bytes),
    Column("kv_bytes_per_token", "KV/token", format_bytes, 1),
    Column("built_in_model_runs_it", "built-in", lambda runs: "runs" if runs else "calculators only", rank=3),
    Column("title", "what", rank=3),
    Column("source", "source", rank=4),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab models`."""
    add_dtypes(parser, "storage of weights and KV cache")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """Every preset with its sizes."""
    rows = [
        {
            "model": name,
            "title": preset.title,
            "parameters": parameter_count(preset.arch),
            **_sizes(preset.arch),
            "dtype": dtype,
            "weight_bytes": weight_bytes(preset.arch, dtype),
            "kv_bytes_per_token": kv_bytes_per_token(preset.arch, dtype),
            "source": preset.source,
        }
        for name, preset in PRESETS.items()
        for dtype in args.dtype
    ]
    lead = (f"Models that --model knows by name; sizes in {', '.join(args.dtype)}:",)
    return Answer({"basis": "exact", "models": rows}, lead, (Table(with_formats(_COLUMNS, rows, "model"), rows),))


def _sizes(arch: LlamaArch) -> dict[str, Any]:
    """The common sizes, the names of other fields that are set, and whether the built-in model runs it."""
    fields = arch.as_dict()
    sizes = {name: fields.pop(name) for name in arch._fields[:ALWAYS_STORED]}
    fields.pop("head_dim", None)
    return sizes | {
        "head_dim": arch.head_dim,
        "differs_from_llama_2": ", ".join(fields),
        "built_in_model_runs_it": model_refusal(arch) is None,
    }
