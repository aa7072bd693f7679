"""Attention by torch's fused kernels, with the causal mask where the queries really are.

`is_causal=True` aligns the mask to the top left: with T != S query 0 would see key 0 only, which is
wrong for every cache (pytorch #108108). So it is used for T == S alone, one query needs no mask,
and a chunk gets a mask aligned to the bottom right. A sliding window is a mask as well, once it is shorter than the
keys.

B batch, T new tokens, S keys in view, H query heads, K KV heads, E head dim.
"""

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn import functional

from llamalab.attention.shapes import in_view


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """z_BHTE by scaled_dot_product_attention; raises InputError for shapes that do not fit."""
    k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    new_tokens, visible = q_BHTE.shape[2], k_BKSE.shape[2]
    grouped = _is_grouped(q_BHTE, k_BKSE)
    if new_tokens == 1:
        return functional.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, enable_gqa=grouped)
    if new_tokens == visible and window is None:
        return functional.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, is_causal=True, enable_gqa=grouped)
    mask = _chunk_mask(q_BHTE, k_BKSE, v_BKSE, window)
    return functional.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, attn_mask=mask, enable_gqa=grouped)


def _chunk_mask(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, window: int | None) -> Tensor:
    """The mask of queries that end the keys in view, and see no further back than their window.

    On CUDA an explicit mask rules the flash kernel out, a lower-right bias does not; but where
    flash cannot run the bias falls to a kernel that ignores grouped heads, so it is asked first.
    """
    new_tokens, keys = q_BHTE.shape[2], k_BKSE.shape[2]
    if q_BHTE.is_cuda and window is None:
        params = SDPAParams(q_BHTE, k_BKSE, v_BKSE, None, 0.0, False, _is_grouped(q_BHTE, k_BKSE))
        if can_use_flash_attention(params):
            # Importing this imports PyTorch's compiler, which takes a second or two.
            from torch.nn.attention.bias import causal_lower_right

            return causal_lower_right(new_tokens, keys)
    mask = torch.ones(new_tokens, keys, dtype=torch.bool, device=q_BHTE.device).tril(keys - new_tokens)
    return mask if window is None else mask.triu(keys - new_tokens - window + 1)


def _is_grouped(q_BHTE: Tensor, k_BKSE: Tensor) -> bool:
    return q_BHTE.shape[1] != k_BKSE.shape[1]
