"""int8 by rows or groups and int4 in groups, on a CPU that multiplies whole numbers: our own products (model.native).

Codes lie row by row, of 4 bits in blocks of 32 as ggml's Q4_0 has them. Scales are kept in bfloat16, and so are offsets
where there are any.
"""

import torch
from torch import Tensor

from llamalab.analytic.kept_weights import WHOLE_NUMBERS
from llamalab.model.native.calls import multiply_codes, takes_codes
from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel

_HALF_BLOCK = 16


def _takes(spot: Spot) -> bool:
    on_cpu = spot.device.type == "cpu" and spot.dtype == torch.bfloat16
    return on_cpu and takes_codes(spot.inner, spot.group)


def _arrange(codes: Codes, dtype: torch.dtype) -> Parts:
    half = 1 << (codes.bits - 1)
    stored = (codes.codes.to(torch.int16) + half).to(torch.uint8)
    if codes.bits == 4:
        low, high = stored.view(len(stored), -1, 2, _HALF_BLOCK).unbind(2)
        stored = (low | (high << 4)).flatten(1)
    constants = (codes.scales,) if codes.offsets is None else (codes.scales, codes.offsets)
    return stored.contiguous(), *(one.to(dtype).contiguous() for one in constants)


def _bits(parts: Parts, group: int) -> int:
    """Of the codes: a row of 8 bits has a byte for each weight of its groups."""
    stored, scales_OG = parts[0], parts[1]
    return 8 if stored.shape[1] == scales_OG.shape[1] * group else 4


def _multiply(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    stored, scales_OG, *offsets = parts
    call = _codes_linear if torch.compiler.is_compiling() else multiply_codes
    made: Tensor = call(_bits(parts, group), x_MI, stored, scales_OG, offsets[0] if offsets else None, group)
    return made


@torch.library.custom_op("llamalab::codes_linear", mutates_args=())
def _codes_linear(bits: int, x: Tensor, codes: Tensor, scales: Tensor, offsets: Tensor | None, group: int) -> Tensor:
    """The product as one operation for compilers, which see into no C."""
    return multiply_codes(bits, x, codes, scales, offsets, group)


@_codes_linear.register_fake
def _(bits: int, x: Tensor, codes: Tensor, scales: Tensor, offsets: Tensor | None, group: int) -> Tensor:
    return x.new_empty(x.shape[0], scales.shape[0])


def _widen(parts: Parts, group: int, dtype: torch.dtype) -> Tensor:
    stored, scales_OG, *offsets = parts
    if _bits(parts, group) == 4:
        blocks = stored.view(len(stored), -1, _HALF_BLOCK)
        codes_OI = torch.stack((blocks & 15, blocks >> 4), 2).flatten(1).to(torch.int8) - 8
    else:
        codes_OI = (stored ^ 128).view(torch.int8)
    grouped = codes_OI.to(dtype).view(len(stored), -1, group).mul_(scales_OG[..., None])
    return (grouped.add_(offsets[0][..., None]) if offsets else grouped).view_as(codes_OI)


NATIVE_CODES = WeightKernel(WHOLE_NUMBERS, _takes, _arrange, _multiply, _widen)
