"""The head of a GGUF file: settings by key, then the name, shape, kind and place of each tensor.

Little-endian, version 2 or 3: magic "GGUF", version, number of tensors, number of settings; a setting is a key,
a kind and a value; a tensor is a name, its sizes from the fastest varying on, a kind and an offset from the
data, which begins at the next multiple of `general.alignment`. Source: ggml-org/ggml docs/gguf.md.

Read here and not by gguf.GGUFReader (0.19), which makes a numpy view and two Python objects of every element of a list:
1 MiB of header with a list of bytes took it 8.8 s and 725 MiB, a list of 2**60 that is not there never ended, and a
check of bounds mends only the second. Llama 2's vocabulary took it 0.9 s and 84 MiB; here 0.01 s and 2 MiB.
Numbers of lists stay in the file's own form; texts are bytes.
"""

import mmap
import struct
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from llamalab.errors import FormatError
from llamalab.files.mapped import map_file

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}

T = TypeVar("T")
Value = int | float | bool | bytes | list[bytes] | npt.NDArray[np.generic]


class TensorInfo(NamedTuple):
    """A tensor's place: `kind` is ggml's number; `shape` slowest varying first; `offset` from the data."""

    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufHeader(NamedTuple):
    """The settings and tensors of a file, and where its data begins."""

    settings: dict[str, Value]
    tensors: dict[str, TensorInfo]
    data_start: int


def is_gguf(path: Path) -> bool:
    """Whether a file begins with the magic."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def map_gguf(path: Path) -> tuple[mmap.mmap, GgufHeader]:
    """The mapped file and its header. Raises FormatError where the header is cut short or absurd."""
    data = map_file(path, "checkpoint")
    return data, read_header(data)


def read_header(data: mmap.mmap) -> GgufHeader:
    """The header at the beginning of some bytes. Raises FormatError."""
    cursor = _Cursor(data)
    if cursor.take(len(MAGIC)) != MAGIC:
        raise FormatError(f"a GGUF file must begin with {MAGIC!r}; it begins with {data[:4]!r}")
    version = cursor.number("<I")
    if version not in (2, 3):
        raise FormatError(f"the version of a GGUF file must be 2 or 3, little-endian; got {version}")
    tensor_count, setting_count = cursor.number("<Q"), cursor.number("<Q")
    # The least bytes of an entry: the size of the file bounds the loops.
    cursor.check_count(tensor_count, 24, "tensors")
    cursor.check_count(setting_count, 13, "settings")
    settings = _unique((_setting(cursor) for _ in range(setting_count)), "setting")
    tensors = _unique((_tensor(cursor) for _ in range(tensor_count)), "tensor")
    alignment = settings.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
        raise FormatError(f"general.alignment must be a power of 2 up to 1,048,576; got {alignment!r}")
    return GgufHeader(settings, tensors, -(-cursor.at // alignment) * alignment)


class _Cursor:
    """Reads values in order, never past the end of the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.at = data, 0

    def take(self, size: int) -> bytes:
        self._check(size)
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self) -> bytes:
        return self.take(self.number("<Q"))

    def name(self) -> str:
        try:
            return self.text().decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"a name in a GGUF header must be UTF-8; {error}") from None

    def check_count(self, count: int, least_bytes: int, what: str) -> None:
        if count * least_bytes > len(self._data) - self.at:
            raise FormatError(f"a GGUF file must be long enough for its {count:,} {what}; it is cut short")

    def _check(self, size: int) -> None:
        if size > len(self._data) - self.at:
            raise FormatError(f"a GGUF header must lie in its file; {size:,} bytes at {self.at:,} do not")


def _setting(cursor: _Cursor) -> tuple[str, Value]:
    key = cursor.name()
    return key, _value(cursor, cursor.number("<I"))


def _value(cursor: _Cursor, kind: int) -> Value:
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        element, count = cursor.number("<I"), cursor.number("<Q")
        if element == _STRING:
            cursor.check_count(count, 8, "texts")
            return [cursor.text() for _ in range(count)]
        form = _scalar(element)
        cursor.check_count(count, form.itemsize, "elements")
        return np.frombuffer(cursor.take(count * form.itemsize), dtype=form)
    form = _scalar(kind)
    value: int | float | bool = np.frombuffer(cursor.take(form.itemsize), dtype=form)[0].item()
    return value


def _scalar(kind: int) -> "np.dtype[np.generic]":
    if kind not in _SCALARS:
        raise FormatError(f"a GGUF value must be a number, a text or a list of them; got kind {kind}")
    return np.dtype(_SCALARS[kind])


def _tensor(cursor: _Cursor) -> tuple[str, TensorInfo]:
    name, dims = cursor.name(), cursor.number("<I")
    if not 1 <= dims <= MAX_DIMS:
        raise FormatError(f"a GGUF tensor must have 1 to {MAX_DIMS} dimensions; {name!r} has {dims}")
    sizes = [cursor.number("<Q") for _ in range(dims)]
    if not 1 <= prod(sizes) < 2**48:
        raise FormatError(f"a GGUF tensor must have a size that a file can have; {name!r} has {sizes}")
    return name, TensorInfo(tuple(reversed(sizes)), cursor.number("<I"), cursor.number("<Q"))


def _unique(pairs: Iterable[tuple[str, T]], what: str) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise FormatError(f"a {what} of a GGUF file must be there once; {name!r} is there twice")
        found[name] = value
    return found
