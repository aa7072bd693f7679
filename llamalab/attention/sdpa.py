"""Attention by torch's fused kernels, with the causal mask aligned to the positions of the queries.

`is_causal=True` aligns the mask to the top left: with T != S query 0 would see key 0 only, which is
wrong for every cache (pytorch #108108). So it is used for T == S alone, one query needs no mask,
and a chunk gets a mask aligned to the bottom right. A sliding window is a mask as well, once it is shorter than the
keys.

On CUDA one query and a chunk go to the flash kernel by name where it can run. Of one query torch would ask cuDNN
first on some devices, which plans anew for every number of keys: tens of milliseconds a token. Of a chunk the kernel
aligns its causal mask to the bottom right by itself, as no mask that can be handed over does in a compiled graph.

B batch, T new tokens, S keys in view, H query heads, K KV heads, E head dim.
"""

import torch
from torch import Tensor
from torch.nn import functional

from llamalab.attention.shapes import in_view

_FLASH_DTYPES, _FLASH_CAPABILITY, _FLASH_HEAD_DIM = (torch.bfloat16, torch.float16), (8, 0), 256
_FLASH_TRAINED_HEAD_DIM = 192  # above it not every device has the backward pass
_FLASH_STEP = 8  # of the head dim


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """z_BHTE by scaled_dot_product_attention; raises InputError for shapes that do not fit."""
    k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    new_tokens, visible = q_BHTE.shape[2], k_BKSE.shape[2]
    grouped, one = q_BHTE.shape[1] != k_BKSE.shape[1], new_tokens == 1
    if new_tokens == visible and window is None and not one:
        return functional.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, is_causal=True, enable_gqa=grouped)
    if window is None and q_BHTE.is_cuda and _flash_runs(q_BHTE):
        return _flash(q_BHTE, k_BKSE, v_BKSE, causal=not one)
    if one:
        return functional.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, enable_gqa=grouped)
    mask_TS = torch.ones(new_tokens, visible, dtype=torch.bool, device=q_BHTE.device).tril(visible - new_tokens)
    if window is not None:
        mask_TS = mask_TS.triu(visible - new_tokens - window + 1)
    return functional.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, attn_mask=mask_TS, enable_gqa=grouped)


def _flash_runs(q_BHTE: Tensor) -> bool:
    """Whether torch's flash kernel is switched on and takes such queries; a compiler can answer all of it."""
    head_dim = q_BHTE.shape[-1]
    most = _FLASH_TRAINED_HEAD_DIM if q_BHTE.requires_grad else _FLASH_HEAD_DIM
    return (
        torch._C._get_flash_sdp_enabled()  # what torch.backends.cuda.flash_sdp_enabled asks, which no graph may
        and q_BHTE.dtype in _FLASH_DTYPES
        and head_dim <= most
        and torch.cuda.get_device_capability(q_BHTE.device) >= _FLASH_CAPABILITY
    )


def _flash(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, causal: bool) -> Tensor:
    """z_BHTE by the flash kernel; its causal mask ends with the keys, and KV heads need not be repeated for it."""
    head_dim = q_BHTE.shape[-1]
    padding = -head_dim % _FLASH_STEP
    if padding:
        q_BHTE, k_BKSE, v_BKSE = (functional.pad(x, (0, padding)) for x in (q_BHTE, k_BKSE, v_BKSE))
    z_BHTE: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
        q_BHTE, k_BKSE, v_BKSE, 0.0, causal, scale=head_dim**-0.5
    )[0]
    return z_BHTE[..., :head_dim] if padding else z_BHTE
