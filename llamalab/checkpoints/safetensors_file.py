"""What is in a safetensors file, and where? 8 bytes of length, a JSON header, then the data.

The header gives each tensor's dtype, shape and span of bytes; spans must follow one another from 0 to
the end of the file, as the format demands, so that no byte is read twice or hidden. Read here and not through the
safetensors package, because pages can only be given back where the mapping is ours, and a survey needs the
header alone. Source: huggingface/safetensors README, "Format".
"""

import json
import mmap
import struct
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from llamalab.checkpoints.checkpoint import FLOAT_NAMES, FLOATS, Stored
from llamalab.checkpoints.json_file import parse_object
from llamalab.errors import FormatError
from llamalab.files import map_file

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors package
_LENGTH = struct.Struct("<Q")
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_ALIGNMENT = 8  # of the data, as the package writes it


class SafetensorsFile:
    """A mapped file and its checked header. Raises FormatError where the two contradict each other."""

    def __init__(self, path: Path) -> None:
        self._data = map_file(path, "checkpoint")
        header, self._start = _header(self._data)
        self.metadata = header.pop("__metadata__", {})
        self._spans: dict[str, int] = {}
        self.stored = {name: self._entry(name, entry) for name, entry in header.items()}
        self._check_spans()

    def tensor(self, name: str) -> Tensor:
        """A view of a bf16, fp16 or fp32 tensor where it lies in the file; a copy where that is not aligned."""
        entry = self.stored[name]
        offset, kind = self._start + self._spans[name], FLOATS[entry.dtype]
        raw = torch.frombuffer(self._data, dtype=torch.uint8, count=entry.nbytes, offset=offset)
        return (raw.clone() if offset % kind.itemsize else raw).view(kind).view(entry.shape)

    def _entry(self, name: str, entry: Any) -> Stored:
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            bits = _BITS[dtype]
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"a safetensors header must give dtype, shape and data_offsets of {name!r}; got {error!r}"
            ) from None
        if not all(type(size) is int and 0 <= size < 2**48 for size in (*shape, begin, end)) or len(shape) > 8:
            raise FormatError(f"shape and offsets of {name!r} must be sizes; got {entry['shape']} and {begin}, {end}")
        if 8 * (end - begin) != bits * prod(shape):
            raise FormatError(
                f"the span of {name!r} must be the {prod(shape) * bits // 8:,} bytes of its shape and dtype; "
                f"got {end - begin:,}"
            )
        self._spans[name] = begin
        return Stored(name, shape, dtype, end - begin)

    def _check_spans(self) -> None:
        at = 0
        for begin, name in sorted((begin, name) for name, begin in self._spans.items() if self.stored[name].nbytes):
            if begin != at:
                raise FormatError(f"tensors must follow one another without gap or overlap; {name!r} begins at {begin}")
            at += self.stored[name].nbytes
        if at != len(self._data) - self._start:
            raise FormatError(
                f"a safetensors file must end where its last tensor ends; that is {at:,} bytes after the header, "
                f"the file has {len(self._data) - self._start:,}"
            )


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as a safetensors header does: a length and then a brace."""
    with path.open("rb") as file:
        head = file.read(_LENGTH.size + 1)
    return len(head) > _LENGTH.size and head[_LENGTH.size :] == b"{" and head[6:8] == b"\0\0"


def write_safetensors(file: BinaryIO, entries: Iterable[Stored], fetch: Callable[[str], Tensor]) -> None:
    """Write tensors in the order given, each fetched when its turn comes."""
    entries = list(entries)
    file.write(header_bytes(entries))
    for entry in entries:
        # On CPU and contiguous; numpy knows no bf16, bytes are bytes.
        file.write(fetch(entry.name).detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def header_bytes(entries: Iterable[Stored]) -> bytes:
    """Length and JSON of a file with these tensors end to end, padded with spaces.

    >>> header_bytes([Stored("a", (2,), "F16", 4)])[8:]
    b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}   '
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, at + entry.nbytes]
        }  # fmt: skip
        at += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text


def stored_as(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Stored:
    """How a tensor will lie in a file."""
    return Stored(name, shape, FLOAT_NAMES[dtype], prod(shape) * dtype.itemsize)


def _header(data: mmap.mmap) -> tuple[dict[str, Any], int]:
    if len(data) < _LENGTH.size:
        raise FormatError(f"a safetensors file must begin with {_LENGTH.size} bytes of length; it has {len(data)}")
    (length,) = _LENGTH.unpack_from(data)
    start = _LENGTH.size + length
    if length > MAX_HEADER_BYTES or start > len(data):
        raise FormatError(
            f"a safetensors header must lie in its file and be at most {MAX_HEADER_BYTES:,} bytes; "
            f"got {length:,} in a file of {len(data):,}"
        )
    return parse_object(data[_LENGTH.size : start], "a safetensors header"), start
