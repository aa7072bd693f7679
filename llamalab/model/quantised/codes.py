"""Weights as small whole numbers, with a scale and an offset for each group of neighbours in a row.

    weight = code * scale + offset

Codes of b bits are -2**(b-1) to 2**(b-1) - 1. The largest value of a group decides its scale; 4 bits use the code -8,
which has no positive counterpart, for the value of the largest magnitude, as GGML's Q4_0 does. Formats with zero points
(GPTQ, AWQ) have an offset, our own coding has none.

O out features, I in features, G groups of a row.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.errors import InputError
from llamalab.units import DTYPES, group_in_row

Largest = Callable[[Tensor], Tensor]


class Codes(NamedTuple):
    """codes_OI as int8, scales_OG and offsets_OG as fp32 (None: all are 0), in groups of I / G."""

    bits: int
    codes: Tensor
    scales: Tensor
    offsets: Tensor | None = None

    @property
    def group(self) -> int:
        """Weights of a row that share a scale."""
        return self.codes.shape[1] // self.scales.shape[1]

    @property
    def by_row(self) -> bool:
        """Whether a row has one scale."""
        return self.scales.shape[1] == 1

    def on(self, device: torch.device) -> "Codes":
        """The same on another device."""
        offsets = None if self.offsets is None else self.offsets.to(device)
        return Codes(self.bits, self.codes.to(device), self.scales.to(device), offsets)

    def widened(self, dtype: torch.dtype) -> Tensor:
        """weight_OI, computed in fp32."""
        weight = self.codes.float().view(len(self.codes), -1, self.group) * self.scales[..., None]
        if self.offsets is not None:
            weight = weight + self.offsets[..., None]
        return weight.view_as(self.codes).to(dtype)


def coded(weight_OI: Tensor, storage: str, *, over_parts: Largest | None = None) -> Codes:
    """The nearest codes of a weight, or of a part of its columns.

    `over_parts` gives the largest magnitudes of whole rows from those of a part's: a scale for each row covers all of
    it. Raises InputError for rows that the storage does not take: see units.group_in_row.

    >>> made = coded(torch.tensor([[1.0, -2.0, 0.5, 0.0] * 8]), "q4_0")
    >>> made.codes[0, :4].tolist(), made.scales.tolist()
    ([4, -8, 2, 0], [[0.25]])
    """
    out, inner = weight_OI.shape
    group, bits = group_in_row(storage, inner), DTYPES[storage].bits
    if group is None:
        raise InputError(f"rows must be whole groups of at least 32 weights to be stored in {storage}; got {inner}")
    grouped = weight_OI.detach().float().view(out, -1, group)
    most = 1 << (bits - 1)
    if bits == 8:
        largest = grouped.abs().amax(-1)
        scales = (over_parts(largest) if over_parts is not None and group == inner else largest) / (most - 1)
    else:
        least, largest = grouped.amin(-1), grouped.amax(-1)
        scales = torch.where(largest > -least, largest, least) / -most
    divisors = torch.where(scales == 0, 1.0, scales)  # a group of zeros stays one
    codes = (grouped / divisors[..., None]).round_().clamp_(-most, most - 1).to(torch.int8)
    return Codes(bits, codes.view(out, inner), scales)
