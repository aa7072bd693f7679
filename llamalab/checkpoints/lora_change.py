"""The change of one weight by an adapter: W + s B A, DoRA's magnitude, replaced rows.

O outputs, I inputs, R rank, V vocabulary, D model dim.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.checkpoints.layout import hf_name
from llamalab.errors import FormatError


class WeightChange(NamedTuple):
    """The change of one weight, rows in the model's order; a change with all fields empty leaves the weight as it is.

    `base` replaces the stored weight; `saved` is a full copy that is used instead of it.
    """

    base: Tensor | None = None
    saved: Tensor | None = None
    pair: tuple[Tensor, Tensor] | None = None  # down_RI, up_OR; of an embedding (R, D) and (V, R)
    scale: float = 1.0
    magnitude: Tensor | None = None  # (O, 1), of an embedding (1, D)
    rows: tuple[Tensor, Tensor] | None = None  # token ids, and the rows that replace theirs


NOTHING = WeightChange()


def applied(weight: Tensor, change: WeightChange) -> Tensor:
    """A weight in fp32 with the rows, the pair and the magnitude of a change, in PEFT's order."""
    if change.rows is not None:
        ids, values = (part.to(weight.device) for part in change.rows)
        weight = weight.index_copy(0, ids, values.float())
    if change.pair is not None:
        down_RI, up_OR = (half.to(weight.device, torch.float32) for half in change.pair)
        weight = weight + (up_OR @ down_RI) * change.scale
    if change.magnitude is not None:
        magnitude = change.magnitude.to(weight.device, torch.float32)
        # A linear layer has one magnitude an output; an embedding has one for each of D elements.
        weight = weight * (magnitude / torch.linalg.vector_norm(weight, dim=magnitude.shape.index(1), keepdim=True))
    return weight


def wholes(change: WeightChange) -> list[Tensor]:
    """The tensors that replace a whole weight."""
    return [whole for whole in (change.base, change.saved) if whole is not None]


def check_change(name: str, change: WeightChange, shape: tuple[int, ...]) -> None:
    """Raise FormatError where a change does not fit the `shape` of the weight that Meta calls `name`."""
    theirs = hf_name(name)
    for whole in wholes(change):
        if tuple(whole.shape) != shape:
            raise FormatError(f"{theirs} of an adapter must have the shape {shape}; got {tuple(whole.shape)}")
    if change.pair is not None:
        made = (len(change.pair[1]), change.pair[0].shape[1])
        if made != shape:
            raise FormatError(f"the pair of {theirs} must make a change of shape {shape}; it makes {made}")
    if change.magnitude is not None and change.magnitude.numel() != shape[change.magnitude.shape.index(1) - 1]:
        raise FormatError(f"the magnitude of {theirs} must fit {shape}; it has {change.magnitude.numel():,} values")
    if change.rows is not None:
        ids, values = change.rows
        if len(shape) != 2 or values.shape[1] != shape[1] or int(ids.max()) >= shape[0]:
            raise FormatError(f"the token rows of {theirs} must lie in its shape {shape}; they do not")
