"""The product for a weight's shape, by rows: few rows by our own loops, many in fp32.

For a few rows of a plain weight llamalab.streamed may be faster than torch.

Where a CPU multiplies 16 bits slowly and fp32 fast, a copy of the weight in fp32 pays for many rows, never for one,
which would read the weight several times over. Both limits depend on the machine and the shape: a `ShapeProduct`
holds them, llamalab.measure.roofs.shape_products measures them.

O out features, I in features.
"""

from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from llamalab.streamed.products import multiply_plain

PACKED, PLAIN, BY_LOOPS = "packed", "plain", "streamed"


class ShapeProduct(NamedTuple):
    """How weights of one shape are kept, packed or plain, and which rows are not multiplied by torch as they are.

    From `wide_rows` rows on the weight is widened to fp32 (None: never); up to `streamed_rows` a plain one is streamed.

    >>> ShapeProduct("plain", 128, 16).words
    'plain, streamed to 16 rows, fp32 from 128 rows'
    """

    order: str = PACKED
    wide_rows: int | None = None
    streamed_rows: int = 0

    @property
    def words(self) -> str:
        """A short description, as stored in records."""
        streamed = f", streamed to {self.streamed_rows} rows" if self.streamed_rows else ""
        return self.order + streamed + ("" if self.wide_rows is None else f", fp32 from {self.wide_rows} rows")


def multiply_wide(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """X W^T in fp32, rounded to the type of x; the widened weight is freed."""
    made = F.linear(x.float(), weight_OI.float(), None if bias_O is None else bias_O.float())
    return made.to(x.dtype)


def rows_of(x: Tensor) -> int:
    """The rows of a product: all dimensions of x but the last."""
    return x.numel() // x.shape[-1]


def is_wide(x: Tensor, wide_rows: int | None) -> bool:
    """Whether a product of these rows is to be one in fp32."""
    return wide_rows is not None and rows_of(x) >= wide_rows


class PlainLinear(nn.Linear):
    """x W^T, and a bias, with a plain weight, by the ways of its ShapeProduct for the rows, for inference on a CPU."""

    def __init__(self, plain: nn.Linear, product: ShapeProduct) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None, device="meta")
        self.weight, self.bias, self.product = plain.weight, plain.bias, product

    def forward(self, input: Tensor) -> Tensor:
        if rows_of(input) <= self.product.streamed_rows:
            made = multiply_plain(input, self.weight)
            return made if self.bias is None else made + self.bias
        if is_wide(input, self.product.wide_rows):
            return multiply_wide(input, self.weight, self.bias)
        return super().forward(input)
