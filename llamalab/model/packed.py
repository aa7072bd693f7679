"""Weights copied into the layout in which a CPU streams them at its memory bandwidth.

The packed weight takes the place of the plain one, of the same size: no second copy stays. Where oneDNN has no packed
products (llamalab.model.onednn) few rows are streamed; `product_for` chooses the product for all callers.

O out features, I in features.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from llamalab.model.onednn import can_pack, multiply_packed, pack
from llamalab.model.quantised.weights import kept_of
from llamalab.model.wide import (
    BY_LOOPS,
    PACKED,
    PLAIN,
    PlainLinear,
    ShapeProduct,
    is_wide,
    multiply_wide,
    rows_of,
)
from llamalab.streamed.layout import UNIT
from llamalab.streamed.products import can_stream, multiply_plain

# Rows up to which an unmeasured plain weight is streamed: at this number the loops take a quarter of the time of
# torch's emulated bf16 product, and from some dozens on a product in fp32 is the fastest.
STREAMED_ROWS = 16
_LEAST_STREAMED = 2**16  # weights of a matrix: in smaller ones the call takes most of the time


class Product(NamedTuple):
    """A way to compute x W^T: its name, a function that lays out a plain weight_OI, and the product itself."""

    name: str
    arrange: Callable[[Tensor], Tensor]
    multiply: Callable[[Tensor, Tensor], Tensor]


def product_for(device: torch.device, dtype: torch.dtype) -> Product:
    """The product with weights of this type here: packed on a CPU that can, else streamed, plain elsewhere."""
    if device.type == "cpu" and can_pack(dtype):
        return Product(PACKED, pack, multiply_packed)
    if device.type == "cpu" and dtype.itemsize == 2 and can_stream(dtype, UNIT):
        return Product(BY_LOOPS, lambda weight_OI: weight_OI, multiply_by_rows)
    return Product(PLAIN, lambda weight_OI: weight_OI, F.linear)


def multiply_by_rows(x: Tensor, weight_OI: Tensor) -> Tensor:
    """The product with a plain weight of whole units, few rows streamed."""
    return multiply_plain(x, weight_OI) if rows_of(x) <= STREAMED_ROWS else F.linear(x, weight_OI)


def product_of(model: nn.Module) -> str:
    """The product of most of a model's weights: packed, plain, in fp32 from a number of rows on, or quantised."""
    kept = kept_of(model)
    if kept is not None and kept.product is not None:
        return kept.product
    ways = Counter(_way(module).words for module in model.modules() if isinstance(module, PackedLinear | nn.Linear))
    return ways.most_common(1)[0][0] if ways else PLAIN


def _way(module: nn.Module) -> ShapeProduct:
    if isinstance(module, PlainLinear):
        return module.product
    return ShapeProduct(PACKED, module.wide_rows) if isinstance(module, PackedLinear) else ShapeProduct(PLAIN)


@torch.library.custom_op("llamalab::packed_linear", mutates_args=())
def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None, wide: bool) -> Tensor:
    """The product as one opaque operation: inductor takes packed weights only as constants of its graph."""
    return multiply_wide(x, weight.to_dense(), bias) if wide else multiply_packed(x, weight, bias)


@_packed_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, wide: bool) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


class PackedLinear(nn.Module):
    """x W^T, and a bias, with a packed weight_OI, for inference on a CPU. Its state dict has the plain weight.

    From `wide_rows` rows on the product is one in fp32 (None: never).
    """

    def __init__(
        self, packed_OI: nn.Parameter, bias_O: nn.Parameter | None = None, wide_rows: int | None = None
    ) -> None:
        super().__init__()
        self.wide_rows = wide_rows
        self.out_features, self.in_features = packed_OI.shape
        self.weight, self.bias = packed_OI, bias_O

    def forward(self, x: Tensor) -> Tensor:
        wide = is_wide(x, self.wide_rows)
        if torch.compiler.is_compiling():
            made: Tensor = _packed_linear(x, self.weight, self.bias, wide)
            return made
        if wide:
            return multiply_wide(x, self.weight.to_dense(), self.bias)
        return multiply_packed(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight.to_dense()
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        if prefix + "weight" in state:
            self.weight = pack(state[prefix + "weight"].to(self.weight.dtype))
        if self.bias is not None and prefix + "bias" in state:
            self.bias = nn.Parameter(state[prefix + "bias"].detach(), requires_grad=False)


def pack_weights(model: nn.Module, products: Mapping[tuple[int, int], ShapeProduct] | None = None) -> None:
    """Replace every nn.Linear inside `model` by a PackedLinear, one by one; plain weights are freed.

    A weight that several products share is packed once. One that this CPU cannot multiply packed stays plain, and few
    rows of it are streamed where it can. `products` has the product of weights of (out, in) where another is known to
    be faster: plain, in fp32 from so many rows on, streamed up to so many. Raises UnavailableError where the model is
    not on a CPU.
    """
    homes: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                homes[id(child.weight)].append((module, name))
    for places in homes.values():
        weight_OI = getattr(*places[0]).weight
        product = _possible(weight_OI, (products or {}).get(tuple(weight_OI.shape)))
        if product == ShapeProduct(PLAIN):
            continue
        packed_OI = pack(weight_OI) if product.order == PACKED else None
        for module, name in places:
            plain = getattr(module, name)
            made = (
                PlainLinear(plain, product)
                if packed_OI is None
                else PackedLinear(packed_OI, plain.bias, product.wide_rows)
            )
            made._forward_hooks = plain._forward_hooks  # the hooks of collectives (own_share)
            setattr(module, name, made)


def _possible(weight_OI: Tensor, wanted: ShapeProduct | None) -> ShapeProduct:
    """The requested or default product, as far as this CPU supports it."""
    product = wanted or ShapeProduct()
    if weight_OI.device.type == "cpu" and product.order == PACKED and not can_pack(weight_OI.dtype):
        product = product._replace(order=PLAIN, streamed_rows=STREAMED_ROWS if _is_slow(weight_OI) else 0)
    if product.streamed_rows and not can_stream(weight_OI.dtype, weight_OI.shape[1]):
        product = product._replace(streamed_rows=0)
    return product


def _is_slow(weight_OI: Tensor) -> bool:
    """Whether torch, without packing, emulates 16-bit products of one row, for a weight large enough to matter."""
    return weight_OI.element_size() == 2 and weight_OI.numel() >= _LEAST_STREAMED
