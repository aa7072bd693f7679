"""int8 and int4 by loops of our own on a CPU (llamalab.streamed): in groups, or with a scale for each row.

Scales are kept in the dtype of activations, and nothing else beside the codes; there are no offsets.
"""

import torch
from torch import Tensor

from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel
from llamalab.streamed.layout import (
    ROWS,
    UNIT,
    from_blocks,
    from_bytes,
    in_blocks,
    in_bytes,
    scales_from_blocks,
    scales_in_blocks,
)
from llamalab.streamed.library import has_vnni
from llamalab.streamed.products import can_stream, multiply_codes


def _takes(spot: Spot) -> bool:
    """fp32 is not rounded to 16 bits; with AVX-512 and no VNNI torch was as fast (docs/decisions.md)."""
    if spot.device.type != "cpu" or spot.dtype not in (torch.bfloat16, torch.float16):
        return False
    fast = has_vnni() or torch.backends.cpu.get_cpu_capability() == "AVX2"
    return fast and spot.group % UNIT == 0 and can_stream(spot.dtype, spot.inner)


def _in_blocks(out: int) -> bool:
    return has_vnni() and out % ROWS == 0


def _arrange(codes: Codes, dtype: torch.dtype) -> Parts:
    if codes.offsets is not None:
        raise RuntimeError("the loops have no offsets")
    scales_OG = codes.scales.to(dtype)
    if _in_blocks(len(scales_OG)):
        return in_blocks(codes.codes, codes.bits), scales_in_blocks(scales_OG)
    laid = codes.codes if codes.bits == 8 else in_bytes(codes.codes)
    return laid.contiguous(), scales_OG.contiguous()


def _multiply(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    laid, scales = parts
    return multiply_codes(x_MI, laid, scales, group)


def _widen(parts: Parts, group: int, dtype: torch.dtype) -> Tensor:
    laid, scales = parts
    if laid.dim() == 3:
        codes_OI, scales_OG = from_blocks(laid), scales_from_blocks(scales)
    else:
        codes_OI, scales_OG = laid if laid.dtype == torch.int8 else from_bytes(laid), scales
    return codes_OI.to(dtype).view(len(codes_OI), -1, group).mul_(scales_OG[..., None]).view_as(codes_OI)


STREAMED_CODES = WeightKernel("streamed", _takes, _arrange, _multiply, _widen)
