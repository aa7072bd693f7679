"""Trained weights from files: a table of formats, each recognised by content and read by its own module.

Belongs here: one module a format (reading, writing, names and permutations of its tensors), conversion between them,
adapters, and checks that make a hostile file harmless. A format is added as a module and a row of the table.
Does not belong here: tokenizing and generating (text), sizes by formula (analytic), the model's computation.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.checkpoints import gguf, huggingface, llama2c, lora, meta
from llamalab.checkpoints.checkpoint import Survey, Weights, model_shapes
from llamalab.checkpoints.filled import filled_model
from llamalab.checkpoints.llama2c import write_llama2c
from llamalab.checkpoints.lora import merged
from llamalab.checkpoints.nature import nature, wrong_file
from llamalab.checkpoints.vocabulary import resize_vocabulary
from llamalab.errors import FormatError, InputError, MissingError, UnknownNameError
from llamalab.files.inputs import check_exists
from llamalab.model import Transformer
from llamalab.model.dtypes import activation_dtype, torch_device
from llamalab.units import QUANTISED

__all__ = [
    "CHECKPOINT_FORMATS",
    "Format",
    "load",
    "open_weights",
    "read",
    "resize_vocabulary",
    "survey",
    "write_llama2c",
]


class Format(NamedTuple):
    """A format. `recognises` reads the first bytes of an existing path and raises nothing where they are of another
    format; `survey` reads headers alone, and raises InputError where they are not sound.
    """

    name: str
    recognises: Callable[[Path], bool]
    survey: Callable[[Path], Survey]


# llama2.c last: its first version has no magic, only plausible sizes.
CHECKPOINT_FORMATS = (
    Format(meta.KIND, meta.recognises, meta.survey),
    Format(f"{huggingface.KIND}, config.json and safetensors or .bin", huggingface.recognises, huggingface.survey),
    Format(lora.KIND, lora.recognises, lora.survey),
    Format(gguf.KIND, gguf.recognises, gguf.survey),
    Format(llama2c.KIND, llama2c.recognises, llama2c.survey),
)


def survey(path: str | os.PathLike[str]) -> Survey:
    """Sizes, dtypes and architecture of a checkpoint from its headers, without reading weights.

    Raises MissingError where the path does not exist, FormatError where it is no sound file of a known format.
    """
    target = Path(path)
    if not os.path.lexists(target):
        raise MissingError(
            f"the checkpoint must exist; there is no {target}; give the path of a file or folder "
            "on this machine (nothing is downloaded)"
        )
    check_exists(target, "checkpoint")
    try:
        for form in CHECKPOINT_FORMATS:
            if form.recognises(target):
                return form.survey(target)
    except InputError as error:
        raise _unsound(target, error) from None
    except OSError as error:
        raise MissingError(f"the checkpoint must be readable; {target}: {error.strerror}") from None
    if (cause := wrong_file(target)) is not None:
        raise FormatError(f"the checkpoint must hold its weights; {target} is {cause}")
    known = "; ".join(form.name for form in CHECKPOINT_FORMATS)
    raise FormatError(f"the checkpoint must be of a format that llamalab reads ({known}); {target} is {nature(target)}")


def open_weights(path: str | os.PathLike[str]) -> Weights:
    """The architecture of a checkpoint and a function that fetches its weights one by one. Errors as for read."""
    found = survey(path)
    try:
        return found.complete()
    except InputError as error:
        raise _unsound(Path(path), error) from None


def read(path: str | os.PathLike[str]) -> tuple[LlamaArch, dict[str, torch.Tensor]]:
    """The architecture and the weights of a checkpoint, each in its own dtype, mapped where that is possible.

    Raises MissingError where there is nothing, FormatError where it is no whole Llama 2 of a known format.
    """
    weights = open_weights(path)
    try:
        return weights.arch, {name: weights.fetch(name) for name in model_shapes(weights.arch)}
    except InputError as error:
        raise _unsound(Path(path), error) from None


def load(
    path: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    device: str = "cpu",
    attention: str = "sdpa",
    lora: str | os.PathLike[str] | None = None,
    weight_dtype: str | None = None,
) -> Transformer:
    """A model with the weights of a checkpoint, by default in the dtype of most of them, or fp32 if quantised.

    Weights that need no change stay in the mapped file (copy-on-write) and are read at first use. Others are cast and
    placed one by one. Errors as for read, DoesNotFitError where memory is too small, and the errors for an unknown
    attention, dtype, weight dtype or device, which are raised first.

    Args:
        path: a file or folder of any known format.
        dtype: of weights and activations.
        device: where the model is placed.
        attention: the attention backend, by name.
        lora: a folder in PEFT's layout, whose adapter is merged.
        weight_dtype: one of llamalab.units.QUANTISED: matrices are quantised one by one as they are read; codes that
            the file already has in this type are taken without being widened.
    """
    if dtype is not None:
        activation_dtype(dtype)
    place, backend = torch_device(device), get_backend(attention)
    if weight_dtype is not None and weight_dtype not in QUANTISED:
        raise UnknownNameError("weight dtype", weight_dtype, QUANTISED)
    weights = open_weights(path)
    if lora is not None:
        weights = merged(weights, lora)
    try:
        return filled_model(weights, dtype=dtype, device=place, attention=backend.name, weight_dtype=weight_dtype)
    except InputError as error:
        raise _unsound(Path(path), error) from None


def _unsound(path: Path, error: InputError) -> FormatError:
    return FormatError(f"{path} must be a whole and sound checkpoint; {error}")
