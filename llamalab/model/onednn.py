"""oneDNN's products with packed weights: availability on this CPU, packing, product.

oneDNN keeps the weight of a product in blocks that fit the registers. Given a plain matrix it multiplies one
row at about two thirds of the rate (docs/decisions.md has the figures); packed once, it is used as it is. Not every CPU
and every build of torch has these products for every element type: whether this one does is tried (`can_pack`).

O out features, I in features.
"""

from functools import cache

import torch
from torch import Tensor, nn

from llamalab.errors import UnavailableError
from llamalab.startup.compilers import constant_in_graphs

_ROWS = 512  # of the product that the packing is for; one row runs as fast on it
_TRIED_OI, _TRIED_ROWS = (48, 80), (1, 3, 40)


@constant_in_graphs
def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN is present and enabled, and multiplies packed weights of this type here with correct results.

    A tiny product is tried once per process and type.
    """
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.backends.mkldnn.enabled and _packs(dtype))


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Packed products of one row and of several, compared with plain ones in double precision."""
    if not dtype.is_floating_point:
        return False
    out, inner = _TRIED_OI
    with torch.inference_mode(), torch.device("cpu"):
        weight_OI = torch.linspace(-1, 1, out * inner).view(out, inner).sin().to(dtype)
        try:
            packed_OI = pack(weight_OI)
            return all(_close(weight_OI, packed_OI, rows) for rows in _TRIED_ROWS)
        except (RuntimeError, AttributeError):  # the CPU lacks instructions, or torch lacks the operation
            return False


def _close(weight_OI: Tensor, packed_OI: Tensor, rows: int) -> bool:
    x = torch.linspace(-2, 2, rows * weight_OI.shape[1]).view(rows, -1).cos().to(weight_OI.dtype)
    made, exact = multiply_packed(x, packed_OI).double(), x.double() @ weight_OI.double().T
    return bool((made - exact).abs().max() <= 8 * exact.abs().max() * torch.finfo(weight_OI.dtype).eps)


def multiply_packed(x: Tensor, packed_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """The product x W^T of a weight that `pack` made, and the bias added to it."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed_OI, bias_O, "none", [], "")
    return made


def pack(weight_OI: Tensor) -> nn.Parameter:
    """The weight in the order that one row and many are multiplied fastest in; no gradient flows to it.

    Raises UnavailableError where the weight is not on a CPU; `can_pack` says whether this CPU can.
    """
    if weight_OI.device.type != "cpu":
        raise UnavailableError(f"weights can be packed on a CPU only; these are on {weight_OI.device}")
    return nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), _ROWS), requires_grad=False)


def widened_type(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type to widen a weight to for many rows in `dtype`: fp32 on a CPU that emulates `dtype`.

    >>> widened_type(torch.device("meta"), torch.bfloat16)
    torch.bfloat16
    """
    return dtype if device.type != "cpu" or can_pack(dtype) else torch.float32
