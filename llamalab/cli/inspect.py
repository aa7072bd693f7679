"""`llamalab inspect`: format and architecture of a checkpoint, from its headers."""

import argparse
import re
from math import prod

from llamalab.analytic.difference import unlike_llama_2
from llamalab.arch import LlamaArch, attention_kind
from llamalab.cli.arguments import add_format
from llamalab.cli.output import Answer, Column, Table, option_of, thousands
from llamalab.errors import InputError, UnavailableError
from llamalab.files.inputs import check_exists
from llamalab.formatting import format_bytes
from llamalab.presets import PRESETS
from llamalab.startup.hints import TYPE_CHECKING, Any
from llamalab.text.vocabularies import vocabulary_name

if TYPE_CHECKING:
    from llamalab.checkpoints.checkpoint import StoredTensor, Survey

SUMMARY = "what a checkpoint is, tensor by tensor, without loading its weights"
EXAMPLES = (
    "llamalab inspect stories260K.bin",
    "llamalab inspect llama-2-7b-hf",
    "llamalab inspect model.gguf --format json",
)
_SIZES = ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab inspect`."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="a checkpoint: a file, or a folder of Meta's or HF's")
    parser.add_argument("--model", metavar="PATH", help="as PATH")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The headers. Raises MissingError for a missing path, before any import."""
    path = args.path or args.model
    if path is None or (args.path and args.model):
        raise InputError("one checkpoint must be named, as PATH or with --model; see llamalab inspect --help")
    check_exists(path, "checkpoint")
    from llamalab.checkpoints import survey

    return _answer(path, survey(path))


def matching_preset(arch: LlamaArch) -> tuple[str | None, tuple[str, ...]]:
    """The preset of these sizes and the fields in which it differs; None where none has these sizes.

    >>> matching_preset(PRESETS["13b"].arch.replace(vocab_size=55000))
    ('13b', ('vocab_size',))
    """
    found = {}
    for name, preset in PRESETS.items():
        pairs = zip(arch._fields, arch, preset.arch, strict=True)
        differing = tuple(field for field, ours, theirs in pairs if ours != theirs)
        if not set(differing) & set(_SIZES):
            found[name] = differing
    nearest = min(found, key=lambda name: len(found[name]), default=None)
    return nearest, found[nearest] if nearest else ()


def _answer(path: str, survey: "Survey") -> Answer:
    arch, problem = _completed(survey)
    preset, differing = matching_preset(arch) if arch else (None, ())
    remarks = [*survey.remarks, *(_oddities(arch) if arch else ())]
    data: dict[str, Any] = {
        "path": path,
        "kind": survey.kind,
        "llama2_shaped": arch is not None and not arch.beyond_llama_2,
        "loads": arch is not None,
        "problem": problem,
        "architecture": arch.as_dict() if arch else None,
        "preset": preset,
        "differs_from_preset_in": list(differing),
        "parameters": sum(prod(tensor.shape) for tensor in survey.stored),
        "weight_bytes": sum(tensor.nbytes for tensor in survey.stored),
        "unusual": remarks,
        "dtypes": _by_dtype(survey.stored),
        "tensors": [tensor._asdict() for tensor in survey.stored],
    }
    return Answer(data, tuple(_lead(data, arch)), _tables(data))


def _completed(survey: "Survey") -> tuple[LlamaArch | None, str | None]:
    try:
        return survey.complete().arch, None
    except (InputError, UnavailableError) as error:
        return None, error.spelled(option_of)


def _oddities(arch: LlamaArch) -> list[str]:
    oddities = []
    if arch.vocab_size != 32_000:
        name = vocabulary_name(arch.vocab_size)
        known = f", as {name} has" if name else ""
        oddities.append(f"the vocabulary has {arch.vocab_size:,} entries{known}; Llama 2 has 32,000")
    if arch.tied_embeddings:
        oddities.append("the head is the embedding (tied); no released Llama 2 does that")
    if arch.rope_theta != 10_000.0:
        oddities.append(f"rope_theta is {arch.rope_theta:g}; Llama 2 has 10,000")
    if arch.norm_eps != 1e-5:
        oddities.append(f"norm_eps is {arch.norm_eps:g}; Llama 2 has 1e-05")
    return oddities


def _lead(data: dict[str, Any], arch: LlamaArch | None) -> list[str]:
    count = len(data["tensors"])
    lead = [
        f"{data['path']}: {data['kind']}",
        f"  {count:,} tensor{'' if count == 1 else 's'}, {data['parameters']:,} stored values, "
        f"{format_bytes(data['weight_bytes'])} ({data['weight_bytes']:,} bytes)",
    ]
    if arch is None:
        lead.append(f"  no model that llamalab loads: {data['problem']}")
    else:
        lead.append(
            f"  {_kind(arch)}: "
            f"dim {arch.dim:,}, {arch.n_layers} layers, {arch.n_heads} heads, "
            f"{arch.n_kv_heads} KV heads ({attention_kind(arch.n_heads, arch.n_kv_heads)}), FFN {arch.ffn_dim:,}, "
            f"vocabulary {arch.vocab_size:,}, context {arch.max_positions:,}"
        )
        lead.append(f"  preset: {_preset(data)}")
    return lead + [f"  unusual: {remark}" for remark in data["unusual"]]


def _kind(arch: LlamaArch) -> str:
    if arch.beyond_llama_2:
        return f"of the Llama family, with {', '.join(arch.beyond_llama_2)}"
    other = ", ".join(unlike_llama_2(arch))
    return f"Llama-2-shaped, with another {other}" if other else "Llama-2-shaped"


def _preset(data: dict[str, Any]) -> str:
    if data["preset"] is None:
        return "none has these sizes"
    differing = ", ".join(data["differs_from_preset_in"])
    return f"{data['preset']}, except {differing}" if differing else f"{data['preset']}, exactly"


def _by_dtype(stored: "tuple[StoredTensor, ...]") -> list[dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {}
    for tensor in stored:
        row = kinds.setdefault(tensor.dtype, {"dtype": tensor.dtype, "tensors": 0, "values": 0, "nbytes": 0})
        row["tensors"] += 1
        row["values"] += prod(tensor.shape)
        row["nbytes"] += tensor.nbytes
    return list(kinds.values())


def _tables(data: dict[str, Any]) -> tuple[Table, ...]:
    size = Column("nbytes", "bytes", thousands)
    tensors = (
        Column("name", "tensor"),
        Column("shape", "shape", lambda shape: " × ".join(map(str, shape))),
        Column("dtype", "stored as"),
        Column("count", "count", rank=1),
        size,
    )
    kinds = (Column("dtype", "stored as"), Column("tensors", "tensors"), Column("values", "values", thousands), size)
    caption = "Tensors under the file's own names; * is the layer:"
    return Table(tensors, _by_layer(data["tensors"]), caption), Table(kinds, data["dtypes"])


def _by_layer(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tensors that differ in the layer alone, as one row with their count and bytes together."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for tensor in tensors:
        name = re.sub(r"\.\d+\.", ".*.", tensor["name"])
        row = rows.setdefault(
            (name, tensor["shape"], tensor["dtype"]), tensor | {"name": name, "count": 0, "nbytes": 0}
        )
        row["count"] += 1
        row["nbytes"] += tensor["nbytes"]
    return list(rows.values())
