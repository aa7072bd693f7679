"""Codes widened for every product: for any device, dtype and shape. Slow, and the reference."""

import torch
from torch import Tensor
from torch.nn import functional

from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, WeightKernel


def _arrange(codes: Codes, dtype: torch.dtype) -> Parts:
    stored = codes.codes
    if codes.bits == 4:
        unsigned = (stored + 8).to(torch.uint8)
        stored = unsigned[:, ::2] | (unsigned[:, 1::2] << 4)
    if codes.by_row and codes.bits == 8 and codes.offsets is None:
        return stored.contiguous(), codes.scales.to(dtype)
    offsets = torch.zeros_like(codes.scales) if codes.offsets is None else codes.offsets
    return stored.contiguous(), codes.scales.to(dtype), offsets.to(dtype)


def _widen(parts: Parts, group: int, dtype: torch.dtype) -> Tensor:
    stored, scales_OG, *offsets_OG = parts
    if stored.dtype == torch.uint8:
        stored = torch.stack(((stored & 15).to(torch.int8) - 8, (stored >> 4).to(torch.int8) - 8), -1).flatten(1)
    grouped = stored.to(dtype).view(len(stored), -1, group).mul_(scales_OG[..., None])
    return (grouped.add_(offsets_OG[0][..., None]) if offsets_OG else grouped).view_as(stored)


def _multiply(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    return functional.linear(x_MI, _widen(parts, group, x_MI.dtype))


WIDENED = WeightKernel("widened", lambda spot: True, _arrange, _multiply, _widen)
