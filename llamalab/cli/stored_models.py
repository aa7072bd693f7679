"""`--model PATH` for a checkpoint: its architecture and the bytes of its weights, from headers alone."""

import argparse
import json
import os
from pathlib import Path

from llamalab.arch import LlamaArch
from llamalab.arch_files import read_arch
from llamalab.errors import FormatError

MOST_HEADER_BYTES = 100_000_000  # as the safetensors package allows


def stored_model(args: argparse.Namespace) -> tuple[str, LlamaArch, int] | None:
    """Name, architecture and stored bytes of weights where --model is a checkpoint; None for a preset or config.

    A folder with a config.json and safetensors, a GGUF file, Meta's folder, llama2.c: what llamalab reads. Raises
    MissingError and FormatError as reading it would.
    """
    path = args.model
    if path.lower().endswith(".json") or not os.path.exists(path):
        return None
    arch, size = _stored(Path(path))
    return path, arch if args.kv_heads is None else arch.replace(n_kv_heads=args.kv_heads), size


def _stored(path: Path) -> tuple[LlamaArch, int]:
    config = path / "config.json"
    if config.is_file() and (files := sorted(path.glob("*.safetensors"))):
        # A quantised folder has tensors that no plain reader knows; its sizes are in the headers all the same.
        return read_arch(str(config)), sum(map(safetensors_bytes, files))
    from llamalab.checkpoints import survey

    found = survey(path)
    return found.complete().arch, sum(stored.nbytes for stored in found.stored)


def safetensors_bytes(path: Path) -> int:
    """Bytes of all tensors of a file, as its header places them: scales and zero points of quantised ones included.

    Raises FormatError where the header is none, or places them past the end of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
            raise FormatError(f"{path} must begin with the length of a safetensors header; got {length:,}")
        text = file.read(length)
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
        held = sum(_span(start, end, size - 8 - length) for start, end in ends)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} must have a safetensors header with data_offsets of each tensor; {error}") from None
    return held


def _span(start: int, end: int, most: int) -> int:
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= most:
        raise ValueError(f"{start!r} to {end!r} is no span of its {most:,} bytes")
    return end - start
