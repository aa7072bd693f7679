"""`--model PATH` with a storage of its own: the bytes of its weights, from headers or a config alone."""

import argparse
import os
import re
from collections.abc import Iterable

from llamalab.analytic.hf_storage import HfStorage, hf_storage
from llamalab.arch import LlamaArch
from llamalab.arch.files import read_arch
from llamalab.cli.output import note
from llamalab.errors import FormatError
from llamalab.files.inputs import read_object
from llamalab.formatting import format_bytes
from llamalab.startup.hints import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MOST_HEADER_BYTES = 100_000_000  # as the safetensors package allows
_LAYER = re.compile(r"(?:^|\.)(?:layers|blk|h)\.(\d+)\.")
_GGML = {
    "Q4_K": "q4_k_m",
    "Q5_K": "q5_k_m",
    "Q6_K": "q6_k",
    "Q8_0": "q8_0",
    "Q4_0": "q4_0",
}  # by the kind of most bytes
_TABLE = re.compile(r"embed_tokens|tok_embeddings|token_embd|wte\.")
_PLAIN = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "fp16": "fp16", "bf16": "bf16", "fp32": "fp32"}


class StoredWeights(NamedTuple):
    """A file's weights: bytes of all, how they are stored in words, and as a weight dtype of ours.

    `layer_bytes` are those of each layer, its own where a header tells them, else an equal part.
    """

    arch: LlamaArch
    bytes: int
    kind: str
    weight_dtype: str
    layer_bytes: tuple[int, ...] = ()
    embedding_bytes: int = 0


class _Entry(NamedTuple):
    """A tensor of a header; elements as they count in the model, None where the file packs them."""

    name: str
    kind: str
    bytes: int
    elements: int | None


def stored_model(model: str | LlamaArch) -> StoredWeights | None:
    """The weights that a path stores; None for a preset, a plain config and an architecture.

    A folder with safetensors, a GGUF file, Meta's folder, llama2.c, by their headers: what llamalab reads. A
    config.json with a quantization_config by the layout of its method. Raises MissingError and FormatError as reading
    it would, UnavailableError for a method that is not known.
    """
    if isinstance(model, LlamaArch) or not os.path.exists(model):
        return None
    from pathlib import Path  # here, as json below: a preset needs neither

    path = Path(model)
    config = path if path.suffix.lower() == ".json" else path / "config.json"
    files = [] if config == path else sorted(path.glob("*.safetensors"))
    if config.is_file() and files:
        entries = [entry for file in files for entry in safetensors_entries(file)]
        return _of_entries(read_arch(str(config)), entries, _of_config(config))
    if config == path or (config.is_file() and not any(path.glob("*.bin"))):
        found = _of_config(config)
        if found is None:
            return None
        arch = read_arch(str(config))
        each = (found.layers_bytes // arch.n_layers,) * arch.n_layers
        return StoredWeights(
            arch=arch,
            bytes=found.bytes,
            kind=found.kind,
            weight_dtype=_dtype(found),
            layer_bytes=each,
            embedding_bytes=found.embedding_bytes,
        )
    if path.is_dir() and (path / "params.json").is_file() and not any(path.glob("*.pth")):
        return None
    from llamalab.checkpoints import survey  # imported here: it imports torch

    survey_ = survey(path)
    entries = [_Entry(one.name, one.dtype, one.nbytes, _product(one.shape)) for one in survey_.stored]
    return _of_entries(survey_.complete().arch, entries, None)


def _of_config(path: "Path") -> HfStorage | None:
    config = read_object(str(path), "model file")
    return hf_storage(config, read_arch(str(path))) if "quantization_config" in config else None


def _of_entries(arch: LlamaArch, entries: list[_Entry], declared: HfStorage | None) -> StoredWeights:
    layers = [0] * arch.n_layers
    for entry in entries:
        if (found := _LAYER.search(entry.name)) and int(found[1]) < arch.n_layers:
            layers[int(found[1])] += entry.bytes
    size = sum(entry.bytes for entry in entries)
    by_layer = tuple(layers) if all(layers) else ()
    table = sum(entry.bytes for entry in entries if _TABLE.search(entry.name))
    if declared is not None:
        return StoredWeights(
            arch=arch,
            bytes=size,
            kind=declared.kind,
            weight_dtype=_dtype(declared),
            layer_bytes=by_layer,
            embedding_bytes=table,
        )
    matrices = [entry for entry in entries if _LAYER.search(entry.name) and (entry.elements or 0) > 2 * arch.dim]
    kinds = _by_bytes(matrices or entries)
    if len(kinds) == 1 and kinds[0] in _PLAIN:
        return StoredWeights(
            arch=arch,
            bytes=size,
            kind=kinds[0],
            weight_dtype=_PLAIN[kinds[0]],
            layer_bytes=by_layer,
            embedding_bytes=table,
        )
    if kinds[0] in _GGML:
        return StoredWeights(
            arch=arch,
            bytes=size,
            kind=" and ".join(kinds),
            weight_dtype=_GGML[kinds[0]],
            layer_bytes=by_layer,
            embedding_bytes=table,
        )
    held, elements = (sum(values) for values in zip(*((e.bytes, e.elements or 0) for e in matrices), strict=True))
    return StoredWeights(
        arch=arch,
        bytes=size,
        kind=" and ".join(kinds),
        weight_dtype=f"{max(1.0, 8 * held / elements):.3f}bpw",
        layer_bytes=by_layer,
        embedding_bytes=table,
    )


def _by_bytes(entries: Iterable[_Entry]) -> list[str]:
    sums: dict[str, int] = {}
    for entry in entries:
        sums[entry.kind] = sums.get(entry.kind, 0) + entry.bytes
    return sorted(sums, key=lambda kind: -sums[kind])


def _dtype(found: HfStorage) -> str:
    return "fp8" if found.kind.startswith("fp8") or "float8" in found.kind else f"{found.bits:.3f}bpw"


def _product(shape: tuple[int, ...]) -> int:
    elements = 1
    for size in shape:
        elements *= size
    return elements


def noted_storage(args: argparse.Namespace) -> StoredWeights | None:
    """The storage of --model, as default of --weight-dtype; None where it is unknown."""
    found = stored_model(args.model)
    if found is not None and (found.weight_dtype not in _PLAIN.values() or found.weight_dtype != args.dtype):
        text = f"weights as the file stores them: {found.kind}, {format_bytes(found.bytes)} ({found.bytes:,} bytes)"
        note(text, once=True)
    if found is not None:
        args.weight_dtype = found.weight_dtype
    return found


def safetensors_entries(path: "Path") -> list[_Entry]:
    """The tensors of a file, as its header places them: scales and zero points of quantised ones included.

    Raises FormatError where the header is none, or places them past the end of the file.
    """
    import json

    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MOST_HEADER_BYTES:
            raise FormatError(f"{path} must begin with the length of a safetensors header; got {length:,}")
        if length > size - 8:
            raise FormatError(f"{path} must hold its safetensors header of {length:,} bytes; it is cut at {size:,}")
        text = file.read(length)
    try:
        header = json.loads(text)
        return [
            _Entry(name, str(entry["dtype"]), _span(entry["data_offsets"], size - 8 - length), _product(entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} must have a safetensors header with data_offsets of each tensor; {error}") from None


def _span(offsets: list[int], most: int) -> int:
    start, end = offsets
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= most:
        raise ValueError(f"{start!r} to {end!r} is no span of the {most:,} bytes after it")
    return end - start
