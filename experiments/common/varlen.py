"""Attention of packed documents on a CPU, one by one, that keeps for its gradient what FlashAttention's varlen does.

Queries, keys, values, output and the log-sum of each row, all of the whole batch: torch's varlen_attn needs CUDA.
"""

from typing import Any

import torch
from torch import Tensor, nn

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Varlen(torch.autograd.Function):
    """Causal attention of each span of the sequence to itself."""

    @staticmethod
    def forward(ctx: Any, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """The output, laid out token by token."""
        z_BHTE = torch.empty_like(q_BHTE.transpose(1, 2).contiguous()).transpose(1, 2)
        sums_BHT = torch.empty(q_BHTE.shape[:3], dtype=torch.float32)
        for own in _slices(lengths):
            z, sums = _FORWARD(q_BHTE[:, :, own], k_BKTE[:, :, own], v_BKTE[:, :, own], 0.0, True)
            z_BHTE[:, :, own], sums_BHT[:, :, own] = z, sums
        ctx.save_for_backward(q_BHTE, k_BKTE, v_BKTE, z_BHTE, sums_BHT)
        ctx.lengths = lengths
        return z_BHTE

    @staticmethod
    def backward(ctx: Any, dz_BHTE: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of queries, keys and values."""
        q_BHTE, k_BKTE, v_BKTE, z_BHTE, sums_BHT = ctx.saved_tensors
        grads = [torch.empty_like(one) for one in (q_BHTE, k_BKTE, v_BKTE)]
        for own in _slices(ctx.lengths):
            cut = [one[:, :, own] for one in (dz_BHTE, q_BHTE, k_BKTE, v_BKTE, z_BHTE, sums_BHT)]
            for whole, part in zip(grads, _BACKWARD(*cut, 0.0, True), strict=True):
                whole[:, :, own] = part
        return (*grads, None)


def attend_packed(
    module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, lengths: tuple[int, ...], **others: Any
) -> tuple[Tensor, None]:
    """An attention function of transformers."""
    return Varlen.apply(q, k, v, lengths).transpose(1, 2), None


def _slices(lengths: tuple[int, ...]) -> list[slice]:
    ends = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
