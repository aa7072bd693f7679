"""Functions for `edit`: ablate heads, patch, scale.

Each returns a new tensor, through which gradients flow. Heads are axis 1 of the tensors that have
heads, tokens the last axis but one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llamalab.errors import InputError
from llamalab.instrument.selection import Indices, TensorPart, take

Function = Callable[[Tensor], Tensor]


def scale(factor: float) -> Function:
    """Multiply by a number.

    >>> scale(0.5)(torch.tensor([2.0, 6.0]))
    tensor([1., 3.])
    """
    return lambda tensor: tensor * factor


def ablate(heads: Indices) -> Function:
    """Set some heads to 0; for q, k, v, rot_q, rot_k, the caches, the pattern and z.

    >>> ablate(1)(torch.ones(1, 3, 1, 2)).flatten().tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    """
    part = TensorPart(heads=heads)

    def function(tensor: Tensor) -> Tensor:
        if tensor.dim() != 4:
            raise InputError(
                f"heads must be ablated where there are heads; got a tensor of shape {tuple(tensor.shape)}"
            )
        return tensor.masked_fill(_places(tensor, part), 0.0)

    return function


def patch(value: Tensor, *, tokens: Indices | None = None, heads: Indices | None = None) -> Function:
    """Replace the values of some tokens and heads, or all, by those of another run.

    `value` has the shape of the whole tensor.

    >>> patch(torch.zeros(1, 3, 2), tokens=-1)(torch.ones(1, 3, 2)).sum()
    tensor(4.)
    """
    part = TensorPart(tokens, heads)

    def function(tensor: Tensor) -> Tensor:
        if value.shape != tensor.shape:
            raise InputError(
                f"a patch must have the shape of what it replaces, {tuple(tensor.shape)}; got {tuple(value.shape)}"
            )
        return torch.where(_places(tensor, part), value.to(tensor), tensor)

    return function


def _places(tensor: Tensor, part: TensorPart) -> Tensor:
    """True at the chosen heads and tokens, in a shape that broadcasts."""
    ones = torch.zeros(tensor.dim() * (1,), dtype=torch.bool, device=tensor.device)
    heads = _mask(tensor, 1, part.heads) if part.heads is not None else ~ones
    return heads & (_mask(tensor, -2, part.tokens) if part.tokens is not None else ~ones)


def _mask(tensor: Tensor, axis: int, indices: slice | tuple[int, ...] | None) -> Tensor:
    size = tensor.shape[axis]
    chosen = take(torch.arange(size, device=tensor.device), 0, indices, "heads" if axis == 1 else "tokens")
    mask = torch.zeros(size, dtype=torch.bool, device=tensor.device).index_fill_(0, chosen, True)
    shape = [1] * tensor.dim()
    shape[axis] = size
    return mask.view(shape)
