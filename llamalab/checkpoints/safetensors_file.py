"""safetensors files: the safetensors package reads and maps them; writing is here.

The package checks the header against the file: shapes, dtypes, and spans that follow one another to its end.
Its tensors are views of one private mapping, so nothing is read before it is touched, and the pages of what was copied
can be given back (see pages). Source of the layout written: huggingface/safetensors README, "Format".
"""

import json
import re
import struct
from collections.abc import Callable, Iterable
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llamalab.checkpoints.checkpoint import FLOAT_NAMES, StoredTensor
from llamalab.errors import DoesNotFitError, FormatError, MissingError

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8  # of the data, as the package writes it


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like a safetensors header: a length, then a brace."""
    with path.open("rb") as file:
        head = file.read(_LENGTH.size + 1)
    return len(head) > _LENGTH.size and head[_LENGTH.size :] == b"{" and head[6:8] == b"\0\0"


def open_safetensors(path: Path) -> tuple[dict[str, StoredTensor], Callable[[str], Tensor]]:
    """Tensors from a file's header, and a function that maps each of them.

    Raises FormatError where header and file contradict each other, MissingError where it cannot be read;
    fetching a tensor DoesNotFitError where the system does not map the file.
    """
    # Mapped by numpy: torch maps a file writable, which Linux refuses where it is larger than memory.
    header = _opened(path, "np")
    stored = {name: _stored(name, header.get_slice(name)) for name in header.keys()}  # noqa: SIM118, it is no dict
    file = cache(lambda: _opened(path, "pt"))

    def tensor(name: str) -> Tensor:
        found: Tensor = file().get_tensor(name)
        # A header of odd length, or odd tensors before, can leave values unaligned.
        return found.clone() if found.data_ptr() % found.element_size() else found

    return stored, tensor


def write_safetensors(file: BinaryIO, entries: Iterable[StoredTensor], fetch: Callable[[str], Tensor]) -> None:
    """Write tensors in the given order, each fetched when it is written."""
    # Not by the package: it takes pointers to all tensors of a file at once, which for one of 1 GiB cast on the way
    # was 993 MiB of memory; this was the largest tensor.
    entries = list(entries)
    file.write(header_bytes(entries))
    for entry in entries:
        # On the CPU, contiguous and viewed as bytes, since numpy has no bf16.
        file.write(fetch(entry.name).detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def header_bytes(entries: Iterable[StoredTensor]) -> bytes:
    """Length and JSON of a file with these tensors end to end, padded with spaces.

    >>> header_bytes([StoredTensor("a", (2,), "F16", 4)])[8:]
    b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}   '
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for entry in entries:
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, at + entry.nbytes]}
        at += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text


def stored_tensor(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> StoredTensor:
    """The header entry of a tensor."""
    return StoredTensor(name, shape, FLOAT_NAMES[dtype], prod(shape) * dtype.itemsize)


def _opened(path: Path, framework: str) -> Any:
    try:
        return safe_open(path, framework)
    except SafetensorError as error:  # the package's message may quote bytes of the file
        raise FormatError(f"{path.name} must be sound safetensors; {str(error)!a}") from None
    except OSError as error:
        raise MissingError(f"the checkpoint must be readable; {path}: {error}") from None
    except RuntimeError as error:
        raise DoesNotFitError(f"a file of weights must be mapped into memory; {str(error).splitlines()[0]}") from None


def _stored(name: str, place: Any) -> StoredTensor:
    shape, dtype = tuple(place.get_shape()), str(place.get_dtype())
    # The first number in the name of a kind is its bits, as in BF16 and F8_E4M3; BOOL alone has none.
    bits = re.search(r"\d+", dtype)
    return StoredTensor(name, shape, dtype, prod(shape) * (int(bits[0]) if bits else 8) // 8)
