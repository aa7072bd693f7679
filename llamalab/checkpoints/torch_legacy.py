"""Files of torch.save without a zip archive (old, or `_use_new_zipfile_serialization=False`), mapped.

Five pickles one after another (a magic number, a version, the machine's sizes, the object, the keys of its storages),
then each storage as a count of elements and its bytes. Only the object is unpickled, by an unpickler restricted to
tensors, after the same check of its pickle as for archives (see torch_file); storages stay mapped.
Source: pytorch torch/serialization.py, `_legacy_save`.
"""

import io
import mmap
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.errors import FormatError
from llamalab.files.mapped import map_file

_COUNT = struct.Struct("<q")
_VERSION = 1001
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


class _Storage(NamedTuple):
    """A storage as a pickle describes it; its offset is known after the last pickle."""

    key: str
    dtype: torch.dtype
    size: int


class _Part(NamedTuple):
    """A tensor as a part of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_legacy(path: Path, check: Callable[[bytes], None], most_bytes: int) -> Any:
    """The object in a file, its tensors mapped copy-on-write and checked against it.

    `check` raises FormatError for a pickle that must not be run; FormatError is also raised where the file is cut
    short, a pickle exceeds `most_bytes`, or a tensor exceeds its storage.
    """
    data = map_file(path, "checkpoint")
    pickles, end = _pickles(data, check, most_bytes)
    _, version, machine, described, keys = pickles
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    if version != _VERSION or not little or not isinstance(keys, list):
        raise FormatError(f"{path.name} must be of version {_VERSION} of torch's old format, little-endian; it is not")
    storages = _storages(described)
    places = _places(data, keys, storages, end)
    return {name: _tensor(data, part, places) for name, part in described.items()}


def _pickles(data: mmap.mmap, check: Callable[[bytes], None], most_bytes: int) -> tuple[list[Any], int]:
    values, at = [], 0
    for _ in range(5):
        raw = _pickle_at(data, at, most_bytes)
        check(raw)
        values.append(_Reader(io.BytesIO(raw)).load())
        at += len(raw)
    if not isinstance(values[3], dict):
        raise FormatError(f"a file of torch.save must hold a dictionary of tensors; got {type(values[3]).__name__}")
    return values, at


def _pickle_at(data: mmap.mmap, at: int, most_bytes: int) -> bytes:
    window = io.BytesIO(data[at : at + most_bytes])
    for opcode, _, _ in pickletools.genops(window):
        if opcode.name == "STOP":
            return window.getvalue()[: window.tell()]
    raise FormatError("a pickle must end")


class _Reader(pickle.Unpickler):
    """Builds dictionaries, numbers and descriptions of tensors; every other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        made = {"OrderedDict": OrderedDict, "_rebuild_tensor_v2": _Rebuild(), "_rebuild_parameter": _AsItIs()}.get(name)
        if made is None:
            raise FormatError(f"a pickle of tensors must name nothing but tensors; it names {module}.{name}")
        return made

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, key, _, count, view = saved
        known = kind == "storage" and isinstance(dtype, torch.dtype) and type(count) is int and view is None
        if not known or not isinstance(key, str):
            raise FormatError("a storage must be described as torch.save does; it is not")
        return _Storage(key, dtype, count)


class _Rebuild:
    """Called by a pickle; an object without attributes, so that a pickle can change nothing about it."""

    __slots__ = ()

    def __call__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> _Part:
        numbers = (offset, *shape, *strides)
        if type(storage) is not _Storage or len(shape) != len(strides) or any(type(one) is not int for one in numbers):
            raise FormatError("a tensor must be described as torch.save does; it is not")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if min(numbers) < 0 or (0 not in shape and last >= storage.size):
            raise FormatError(f"a tensor must lie in its storage of {storage.size:,} values; it does not")
        return _Part(storage, offset, tuple(shape), tuple(strides))


class _AsItIs:
    __slots__ = ()

    def __call__(self, part: _Part, *_: Any) -> _Part:
        return part


def _storages(described: dict[Any, Any]) -> dict[str, _Storage]:
    found: dict[str, _Storage] = {}
    for name, part in described.items():
        if type(name) is not str or type(part) is not _Part:
            raise FormatError(f"{name!r} must be a tensor; it is {type(part).__name__}")
        if found.setdefault(part.storage.key, part.storage) != part.storage:
            raise FormatError("a storage must have one kind and size; it has two")
    return found


def _places(data: mmap.mmap, keys: list[Any], storages: dict[str, _Storage], at: int) -> dict[str, int]:
    """The offset of each storage in bytes."""
    places: dict[str, int] = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or key in places or at + _COUNT.size > len(data):
            raise FormatError("the storages of a file of torch.save must be those of its tensors; they are not")
        (count,) = _COUNT.unpack(data[at : at + _COUNT.size])
        places[key] = at + _COUNT.size
        at = places[key] + count * storage.dtype.itemsize
        if count != storage.size or at > len(data):
            raise FormatError(
                f"a file of torch.save must hold its storages; one of {storage.size:,} values is cut short"
            )
    if places.keys() != storages.keys() or at != len(data):
        raise FormatError("a file of torch.save must hold its storages and nothing after them; it does not")
    return places


def _tensor(data: mmap.mmap, part: _Part, places: dict[str, int]) -> Tensor:
    storage, kind = part.storage, part.storage.dtype
    if not storage.size:
        return torch.empty(part.shape, dtype=kind)
    # Pickles of any length may leave values unaligned: pages.readable copies those.
    values = torch.frombuffer(data, dtype=kind, count=storage.size, offset=places[storage.key])
    return values.as_strided(part.shape, part.strides, part.offset)
