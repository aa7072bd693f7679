"""Trained weights from files: a table of formats, each told by content and read by its own module."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.checkpoints import llama2c
from llamalab.checkpoints.llama2c import write_llama2c
from llamalab.errors import FormatError, InputError, MissingError
from llamalab.model import Transformer
from llamalab.model.dtypes import activation_dtype, torch_device

__all__ = ["READERS", "Reader", "load", "read", "write_llama2c"]


class Reader(NamedTuple):
    """A format. `recognises` looks at a few bytes of an existing path and raises nothing for a foreign
    one; `read` gives the architecture and every parameter under the model's name, and raises
    InputError before it allocates anything for what the file does not hold.
    """

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], tuple[LlamaArch, dict[str, torch.Tensor]]]


READERS = (Reader("llama2.c v0, v1 or v2", llama2c.recognises, llama2c.read),)


def read(path: str | os.PathLike[str]) -> tuple[LlamaArch, dict[str, torch.Tensor]]:
    """The architecture and the weights of a checkpoint, in its own dtype, mapped where that is possible.

    Raises MissingError where there is nothing, FormatError where it is no whole checkpoint of a known format.
    """
    target = Path(path)
    if not os.path.exists(target):  # Path.exists raises where a folder may not be searched
        raise MissingError(f"the checkpoint must exist; there is no {target}; check the path")
    for reader in READERS:
        if reader.recognises(target):
            try:
                return reader.read(target)
            except InputError as error:
                raise FormatError(f"{target} must be a whole and sound checkpoint; {error}") from None
    known = ", ".join(reader.name for reader in READERS)
    raise FormatError(
        f"the checkpoint must be of a format that llamalab reads ({known}); {target} is {_nature(target)}"
    )


def load(
    path: str | os.PathLike[str], *, dtype: str | None = None, device: str = "cpu", attention: str = "sdpa"
) -> Transformer:
    """A model with the weights of a checkpoint, by default in the checkpoint's own dtype.

    fp32 weights on the CPU are used where they lie in the file, mapped copy-on-write: nothing is
    read before it is needed. Errors as for read; before it, those for an unknown attention, dtype or
    device.
    """
    kind = None if dtype is None else activation_dtype(dtype)
    place = torch_device(device)
    backend = get_backend(attention)
    arch, state = read(path)
    model = Transformer(arch, attention=backend.name, device="meta")
    model.load_state_dict({name: tensor.to(place, kind) for name, tensor in state.items()}, assign=True)
    return model


def _nature(path: Path) -> str:
    if not path.is_file():
        return "a folder" if path.is_dir() else "no regular file"
    with path.open("rb") as file:
        head = file.read(8)
    return f"none: it begins with the bytes {head.hex(' ')}" if head else "empty"
