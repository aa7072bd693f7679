"""Checks of the sizes and dtypes of a call, before a backend runs."""

from torch import Tensor

from llamalab.analytic.attention_cost import AttentionShape

_DTYPE_NAMES = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32"}


def shape_of(q_BHTE: Tensor, k_BKSE: Tensor, window: int | None = None) -> AttentionShape:
    """The sizes of a call, as the cost formulas take them; a dtype that these do not know keeps torch's name.

    >>> import torch
    >>> shape_of(torch.empty(2, 6, 5, 16), torch.empty(2, 3, 9, 16)).pairs_full
    540
    """
    batch, n_heads, new_tokens, head_dim = q_BHTE.shape
    _, n_kv_heads, context, _ = k_BKSE.shape
    dtype, kv_dtype = (_DTYPE_NAMES.get(str(tensor.dtype), str(tensor.dtype)) for tensor in (q_BHTE, k_BKSE))
    return AttentionShape(
        batch=batch,
        new_tokens=new_tokens,
        context_tokens=context,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        kv_dtype=kv_dtype,
        window=window,
    )
