"""A checkpoint of any format: a list of stored tensors, and a function that fetches each weight of the model.

A format surveys a path from its headers alone (`Survey`), and completes the survey to a `Checkpoint`
when the tensors are those of a supported model. Weights are fetched one by one under Meta's names, mapped from
the files where their layout allows it; the caller chooses dtype and device, so that a model is never in memory
twice.
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from llamalab.analytic.params import weights
from llamalab.arch import LlamaArch
from llamalab.arch.runnable import model_refusal
from llamalab.errors import FormatError, UnavailableError
from llamalab.model import Transformer
from llamalab.model.quantised.codes import Codes

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FLOAT_NAMES = {kind: name for name, kind in FLOATS.items()}


class StoredTensor(NamedTuple):
    """A tensor of the file, under the file's name and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int


class Fetch(Protocol):
    """Gives one weight under Meta's name, as stored or cast to `dtype`, on `device`."""

    def __call__(self, name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        """The weight."""


class Weights(NamedTuple):
    """An architecture and the source of its weights: a checkpoint, a model in memory, or a changed copy of either."""

    arch: LlamaArch
    fetch: Fetch
    # The dtype in which a weight is fetched by default.
    dtype_of: Callable[[str], torch.dtype]
    # The dtype of most elements, in which a model is loaded by default; fp32 where weights are quantised.
    dtype: torch.dtype
    # The codes and scales of a group-quantised matrix; None for any other.
    codes: Callable[[str], Codes | None] = lambda name: None
    # For sharded formats: the part of a weight that one of so many ranks holds, None where the tensor must be cut.
    fetch_part: Callable[[str, int, int], Tensor | None] | None = None


class Survey(NamedTuple):
    """The content of a checkpoint's headers.

    `complete` gives the weights, and raises FormatError where the tensors are not those of the model; `remarks` are
    warnings: sentences on unusual content that loads anyway.
    """

    kind: str
    stored: tuple[StoredTensor, ...]
    complete: Callable[[], Weights]
    remarks: tuple[str, ...] = ()


def weights_of(model: Transformer) -> Weights:
    """The weights of a model in memory."""
    state: dict[str, Tensor] = model.state_dict()

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        return state[name].to(device=device, dtype=dtype)

    return Weights(model.arch, fetch, lambda name: state[name].dtype, model.norm.weight.dtype)


def model_shapes(arch: LlamaArch) -> dict[str, tuple[int, ...]]:
    """Shape of every weight of the model, layer by layer, under Meta's names.

    >>> len(model_shapes(LlamaArch(4096, 32, 32, 32, 11008, 32000)))
    291

    Raises UnavailableError for a model that the built-in one does not run.
    """
    refusal = model_refusal(arch)
    if refusal is not None:
        raise UnavailableError(refusal)
    expanded = {}
    for weight in weights(arch):
        for layer in range(weight.count):
            expanded[weight.name.replace("*", str(layer))] = weight.shape
    return expanded


def check_tensors(needed: dict[str, tuple[int, ...]], stored: dict[str, tuple[int, ...]]) -> None:
    """Check that every tensor that an architecture needs is stored in its shape.

    Raises FormatError naming the first that is missing or of another shape.
    """
    for name, shape in needed.items():
        if name not in stored:
            raise FormatError(f"the checkpoint must hold {name}, which its architecture needs; it has none")
        if stored[name] != shape:
            raise FormatError(
                f"{name} must have the shape {_times(shape)} that the architecture gives; got {_times(stored[name])}"
            )


def check_no_others(stored: Iterable[str], known: Iterable[str]) -> None:
    """Raise FormatError where stored tensors belong to no part of the architecture: the model would lack them."""
    extra = set(stored) - set(known)
    if extra:
        raise FormatError(f"the checkpoint must hold its architecture and nothing else; {leftover_remarks(extra)[0]}")


def check_floats(stored: Iterable[StoredTensor]) -> None:
    """Raise FormatError for a tensor that is not bf16, fp16 or fp32."""
    for tensor in stored:
        if tensor.dtype not in FLOATS:
            raise FormatError(f"a weight must be stored as {', '.join(FLOATS)}; {tensor.name} is {tensor.dtype}")


def common_dtype(stored: Iterable[StoredTensor]) -> torch.dtype:
    """The dtype that most elements have; fp32 as soon as one tensor is quantised."""
    elements: dict[torch.dtype, int] = {}
    for tensor in stored:
        if tensor.dtype not in FLOATS:
            return torch.float32
        kind = FLOATS[tensor.dtype]
        elements[kind] = elements.get(kind, 0) + prod(tensor.shape)
    return max(elements, key=elements.__getitem__, default=torch.float32)


def leftover_remarks(extra: Iterable[str]) -> tuple[str, ...]:
    """One sentence naming stored tensors that the model does not use and that are not read; none where all are used."""
    names = sorted(extra)
    if not names:
        return ()
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return (f"{len(names)} tensors are not part of the model and are not read: {shown}",)


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in shape) or "of a scalar"
