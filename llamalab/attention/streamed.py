"""Attention that reads keys and values once: one query by compiled loops of our own, several by torch's kernel.

Where torch emulates products in 16 bits, each of its kernels for one query takes several times the time of the reads.
"""

import torch
from torch import Tensor

from llamalab.attention import sdpa
from llamalab.attention.shapes import in_view
from llamalab.streamed.attention import attend_one, can_attend


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """z_BHTE; raises InputError for shapes that do not belong together."""
    if streams(q_BHTE, k_BKSE):
        return stream(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    return sdpa.attend(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window)


def stream(q_BH1E: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, query_offset: int, window: int | None) -> Tensor:
    """z_BH1E by the loops."""
    k_BKSE, v_BKSE, *_ = in_view(q_BH1E, k_BKSE, v_BKSE, query_offset, window)
    return attend_one(q_BH1E, k_BKSE, v_BKSE)


def streams(q_BHTE: Tensor, k_BKSE: Tensor) -> bool:
    """Whether the loops run: for one query of each sequence, without a backward pass."""
    if q_BHTE.shape[2] != 1 or q_BHTE.device.type != "cpu":
        return False
    learns = torch.is_grad_enabled() and (q_BHTE.requires_grad or k_BKSE.requires_grad)
    return not learns and can_attend(k_BKSE.dtype, k_BKSE.shape[-1])
