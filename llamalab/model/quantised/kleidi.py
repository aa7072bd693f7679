"""int4 by `_dyn_quant_matmul_4bit` where torch has Arm's KleidiAI: activations are rounded to int8 row by row.

Elsewhere the operation is a reference for tests that is twenty times slower than a plain product, and is not taken.
It multiplies any number of rows. Groups come in fp32, rows of one scale in the activations' dtype; no offsets.
"""

import torch
from torch import Tensor

from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel


def _takes(spot: Spot) -> bool:
    has_kleidi = bool(torch.backends.kleidiai.is_available())  # type: ignore[no-untyped-call]
    return spot.bits == 4 and spot.device.type == "cpu" and has_kleidi and spot.group % 32 == 0


def _arrange(codes: Codes, dtype: torch.dtype) -> Parts:
    """The packed weight, with its sizes as a tensor of shape (O, 0) that takes no byte."""
    if codes.offsets is not None:
        raise RuntimeError("the kernel has no offsets")
    unsigned = (codes.codes + 8).to(torch.uint8)
    pairs = unsigned[:, ::2] | (unsigned[:, 1::2] << 4)
    out, inner = codes.codes.shape
    scales = codes.scales.float() if codes.by_row else codes.scales.bfloat16()
    packed = torch.ops.aten._dyn_quant_pack_4bit_weight(pairs, scales, None, codes.group, inner, out)
    return packed, torch.empty(out, 0)


def _multiply(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    """The product x W^T with x in int8; computed from fp32 where the weight has groups."""
    packed, sizes = parts
    inner, out = x_MI.shape[1], sizes.shape[0]
    x = x_MI if group == inner and x_MI.dtype == torch.bfloat16 else x_MI.float()
    made: Tensor = torch.ops.aten._dyn_quant_matmul_4bit(x, packed, group, inner, out)
    return made.to(x_MI.dtype)


KLEIDI = WeightKernel("dyn_quant_4bit", _takes, _arrange, _multiply, None, close=8.0)
