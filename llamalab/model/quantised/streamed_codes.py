"""int8 and int4 by loops of our own on a CPU (llamalab.streamed): in groups, or with a scale for each row.

Scales are kept in the dtype of activations, and nothing else beside the codes; there are no offsets.
"""

import torch
from torch import Tensor

from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel
from llamalab.streamed.products import UNIT, can_stream, from_bytes, in_bytes, multiply_codes


def _takes(spot: Spot) -> bool:
    """In fp32 activations are not rounded to 16 bits; torch's kernels for AVX-512 were as fast (docs/decisions.md)."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return False
    shaped = spot.group % UNIT == 0 and can_stream(spot.dtype, spot.inner)
    return spot.device.type == "cpu" and spot.dtype in (torch.bfloat16, torch.float16) and shaped


def _arrange(codes: Codes, dtype: torch.dtype) -> Parts:
    if codes.offsets is not None:
        raise RuntimeError("the loops have no offsets")
    laid = codes.codes if codes.bits == 8 else in_bytes(codes.codes)
    return laid.contiguous(), codes.scales.to(dtype).contiguous()


def _multiply(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    laid, scales_OG = parts
    return multiply_codes(x_MI, laid, scales_OG, group)


def _widen(parts: Parts, group: int, dtype: torch.dtype) -> Tensor:
    laid, scales_OG = parts
    codes_OI = laid if laid.dtype == torch.int8 else from_bytes(laid)
    return codes_OI.to(dtype).view(len(laid), -1, group).mul_(scales_OG[..., None]).view_as(codes_OI)


STREAMED_CODES = WeightKernel("streamed", _takes, _arrange, _multiply, _widen)
