"""The interface of a kernel for quantised weights."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.model.quantised.codes import Codes

Parts = tuple[Tensor, ...]  # of one weight, in the kernel's layout


class Spot(NamedTuple):
    """Where a weight of (out, inner) in groups is multiplied: the device, and the dtype of activations."""

    device: torch.device
    dtype: torch.dtype
    bits: int
    out: int
    inner: int
    group: int

    @property
    def by_row(self) -> bool:
        """Whether a row has one scale."""
        return self.group == self.inner


class WeightKernel(NamedTuple):
    """A way to store and multiply quantised weights.

    `takes` says by shape and device whether the kernel is made for them; `arrange` brings codes into its order;
    `multiply` gives x_MI W^T of a few rows, `widen` weight_OI in the dtype of activations, for products of many.
    `widen` is None where the kernel takes any number of rows. `close` is the error of a product that its arithmetic
    may have, over the largest exact value, in units of the dtype's precision.
    """

    name: str
    takes: Callable[[Spot], bool]
    arrange: Callable[[Codes, torch.dtype], Parts]
    multiply: Callable[[Tensor, Parts, int], Tensor]
    widen: Callable[[Parts, int, torch.dtype], Tensor] | None
    close: float = 16.0
