"""int8 in groups, on a CPU: torch has no kernel for it, two products of its int4 kernel make one.

    code = 16 * high + low       high from -8 to 7, low from 0 to 15, kept as low - 8
    W    = high * (16 * scale) + offset  +  (low - 8) * scale + 8 * scale

The two halves are rows of one weight of 2 O, so that one call multiplies both. All factors are powers of two: the
weight is exactly that of the codes.
"""

import torch
from torch import Tensor

from llamalab.model.quantised import nibbles
from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.int4_groups import KERNEL_GROUPS, grouped_constants, multiply_on_cpu, scaled
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel


def _takes(spot: Spot) -> bool:
    shaped = spot.out % 16 == 0 and spot.group in KERNEL_GROUPS and nibbles.block_rows() is not None
    return spot.bits == 8 and not spot.by_row and spot.device.type == "cpu" and shaped


def _arrange(codes: Codes, dtype: torch.dtype) -> Parts:
    halves = torch.cat((codes.codes >> 4, (codes.codes & 15) - 8))
    offsets = torch.zeros_like(codes.scales) if codes.offsets is None else codes.offsets
    scales_OG = torch.cat((16 * codes.scales, codes.scales))
    return nibbles.in_nibbles(halves), grouped_constants(scales_OG, torch.cat((offsets, 8 * codes.scales)), dtype)


def _multiply(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    high_MO, low_MO = multiply_on_cpu(x_MI, parts[0], group, parts[1]).chunk(2, -1)
    return high_MO + low_MO


def _widen(parts: Parts, group: int, dtype: torch.dtype) -> Tensor:
    block = nibbles.block_rows()
    assert block is not None
    high_OI, low_OI = nibbles.from_nibbles(parts[0], block).chunk(2)
    constants = parts[1][:, len(high_OI) :]
    # The scale is that of the low half; the offset that of the high one.
    constants = torch.stack((constants[..., 0], parts[1][:, : len(high_OI), 1]), -1)
    return scaled((high_OI << 4) + low_OI + 8, constants, group, dtype)


INT8_HALVES = WeightKernel("int8 as two int4pack", _takes, _arrange, _multiply, _widen)
