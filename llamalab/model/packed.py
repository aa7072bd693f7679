"""Weights copied into another order, so that a CPU streams them at the speed of its memory.

oneDNN keeps the weight of a product in blocks that fit the registers. Given a plain matrix it multiplies one
row at about two thirds of the rate (docs/decisions.md has the figures); packed once, it need not look for them
again. The packed weight takes the place of the plain one, of the same size: no second copy stays.

O out features, I in features.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from llamalab.errors import UnavailableError

_ROWS = 512  # of the product that the packing is for; one row runs as fast on it


def multiply_packed(x: Tensor, packed_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """The product x W^T of a weight that `pack` made, and the bias added to it."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed_OI, bias_O, "none", [], "")
    return made


@torch.library.custom_op("llamalab::packed_linear", mutates_args=())
def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product as one opaque operation: inductor takes packed weights only as constants of its graph."""
    return multiply_packed(x, weight, bias)


@_packed_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


class PackedLinear(nn.Module):
    """x W^T, and a bias, with a packed weight_OI, for inference on a CPU. Its state dict has the plain weight."""

    def __init__(self, packed_OI: nn.Parameter, bias_O: nn.Parameter | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = packed_OI.shape
        self.weight, self.bias = packed_OI, bias_O

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = (_packed_linear if torch.compiler.is_compiling() else multiply_packed)(x, self.weight, self.bias)
        return made

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight.to_dense()
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        if prefix + "weight" in state:
            self.weight = pack(state[prefix + "weight"])
        if self.bias is not None and prefix + "bias" in state:
            self.bias = nn.Parameter(state[prefix + "bias"].detach(), requires_grad=False)


def pack(weight_OI: Tensor) -> nn.Parameter:
    """The weight in the order that one row and many are multiplied fastest in; no gradient flows to it."""
    if weight_OI.device.type != "cpu":
        raise UnavailableError(f"weights can be packed on a CPU only; these are on {weight_OI.device}")
    return nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), _ROWS), requires_grad=False)


def pack_weights(model: nn.Module) -> None:
    """Put a PackedLinear in the place of every nn.Linear inside `model`, one by one; plain weights are let go.

    A weight that several products share is packed once. Raises UnavailableError where the model is not on a CPU, or
    torch was built without oneDNN.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise UnavailableError("packed weights need a torch that was built with oneDNN; this one was not")
    homes: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                homes[id(child.weight)].append((module, name))
    for places in homes.values():
        packed_OI = pack(getattr(*places[0]).weight)
        for module, name in places:
            setattr(module, name, PackedLinear(packed_OI, getattr(module, name).bias))
