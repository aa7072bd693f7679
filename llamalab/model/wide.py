"""Products of many rows in fp32, from a weight in 16 bits that is widened for the time of the call.

Where a CPU multiplies 16 bits slowly and fp32 fast, many rows pay for one copy of the weight as large as a layer. One
row never does: it would read the weight several times over. From how many rows on is a matter of the machine and the
shape: `ShapeProduct` says it, llamalab.measure.roofs.shape_products finds it out.

O out features, I in features.
"""

from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PACKED, PLAIN = "packed", "plain"


class ShapeProduct(NamedTuple):
    """How weights of one shape are kept, packed or plain, and from how many rows on they are widened to fp32.

    >>> ShapeProduct("packed", 128).words
    'packed, fp32 from 128 rows'
    """

    order: str = PACKED
    wide_rows: int | None = None

    @property
    def words(self) -> str:
        """In a few words, as records have it."""
        return self.order + ("" if self.wide_rows is None else f", fp32 from {self.wide_rows} rows")


def multiply_wide(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """X W^T in fp32, rounded to the type of x; the widened weight is let go."""
    made = F.linear(x.float(), weight_OI.float(), None if bias_O is None else bias_O.float())
    return made.to(x.dtype)


def is_wide(x: Tensor, wide_rows: int | None) -> bool:
    """Whether a product of these rows is to be one in fp32."""
    return wide_rows is not None and x.numel() // x.shape[-1] >= wide_rows


class WideLinear(nn.Linear):
    """x W^T with a plain weight, in fp32 from so many rows on, for inference on a CPU."""

    def __init__(self, plain: nn.Linear, wide_rows: int) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None, device="meta")
        self.weight, self.bias, self.wide_rows = plain.weight, plain.bias, wide_rows

    def forward(self, input: Tensor) -> Tensor:
        if is_wide(input, self.wide_rows):
            return multiply_wide(input, self.weight, self.bias)
        return super().forward(input)
