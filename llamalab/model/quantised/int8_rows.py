"""int8 with a scale for each row: torch's `_weight_int8pack_mm`, on a CPU and where a CUDA build has it.

On a CPU it reads whole vectors past the end of a row: rows of 100 weights crash the process in torch 2.13. Rows that
are not whole vectors are therefore never tried.
"""

import torch
from torch import Tensor

from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel

_VECTOR = 32  # weights: the longest that its versions for AVX2, AVX-512 and NEON read at once


def _takes(spot: Spot) -> bool:
    return spot.bits == 8 and spot.by_row and spot.inner % _VECTOR == 0 and spot.device.type in ("cpu", "cuda")


def _arrange(codes: Codes, dtype: torch.dtype) -> Parts:
    return codes.codes.contiguous(), codes.scales[:, 0].to(dtype).contiguous()


def _multiply(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    return torch._weight_int8pack_mm(x_MI, *parts)


def _widen(parts: Parts, group: int, dtype: torch.dtype) -> Tensor:
    codes_OI, scales_O = parts
    return codes_OI.to(dtype).mul_(scales_O[:, None])


INT8_ROWS = WeightKernel("int8pack", _takes, _arrange, _multiply, _widen)
