"""The kinds of statistics: the update of a state by a tensor, and the shape of a state."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LOWEST, HIGHEST = -40, 24
BINS = HIGHEST - LOWEST


def _add_mean(value: Tensor, count: Tensor, x: Tensor, hidden: "Tensor | int") -> None:
    value.add_(x.sum(dtype=torch.float32))
    count.add_(x.numel() - hidden)


def _add_rms(value: Tensor, count: Tensor, x: Tensor, hidden: "Tensor | int") -> None:
    length = torch.linalg.vector_norm(x, dtype=torch.float32)
    value.addcmul_(length, length)
    count.add_(x.numel() - hidden)


def _add_absmax(value: Tensor, count: Tensor, x: Tensor, hidden: "Tensor | int") -> None:
    least, most = x.aminmax()
    torch.maximum(value, torch.maximum(most, -least), out=value)
    count.add_(1)


def _add_norm(value: Tensor, count: Tensor, x: Tensor, hidden: "Tensor | int") -> None:
    length = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32)
    value.add_(length.sum())
    count.add_(length.numel())


def _add_histogram(value: Tensor, count: Tensor, x: Tensor, hidden: "Tensor | int") -> None:
    exponent = x.float().abs().log2_().clamp_(LOWEST, HIGHEST - 0.5)
    value.add_(torch.histc(exponent, BINS, LOWEST, HIGHEST))
    value[0].sub_(hidden)
    count.add_(1)


def _add_entropy(value: Tensor, count: Tensor, x: Tensor, hidden: "Tensor | int") -> None:
    value.add_(torch.special.entr(x.float()).sum((0, 2, 3)))
    count.add_((x[:, 0].amax(-1) > 0).sum())  # a query without visible keys, such as padding, has no pattern


# The update of each kind, and the shape of a point's state.
STATISTICS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor, Any], None], tuple[int, ...]]] = {
    "mean": (_add_mean, ()),
    "rms": (_add_rms, ()),
    "absmax": (_add_absmax, ()),
    "norm": (_add_norm, ()),
    "histogram": (_add_histogram, (BINS,)),
    "entropy": (_add_entropy, ()),
}
