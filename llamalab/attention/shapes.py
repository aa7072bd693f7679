"""The check that queries, keys and values belong together, once for all backends.

B batch, T new tokens, S keys in view, H query heads, K KV heads, E head dim.
"""

from torch import Tensor

from llamalab.errors import InputError


def check_shapes(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, query_offset: int) -> None:
    """Raise InputError unless B and E agree, K divides H, and every query's own key is in view."""
    if q_BHTE.dim() != 4 or k_BKSE.dim() != 4 or k_BKSE.shape != v_BKSE.shape:
        raise InputError(
            "attention must get q of shape BHTE and k, v of one shape BKSE; "
            f"got {tuple(q_BHTE.shape)}, {tuple(k_BKSE.shape)}, {tuple(v_BKSE.shape)}"
        )
    batch, heads, new_tokens, head_dim = q_BHTE.shape
    kv_batch, kv_heads, keys, kv_head_dim = k_BKSE.shape
    if batch != kv_batch or head_dim != kv_head_dim or heads % kv_heads:
        raise InputError(
            "queries and keys must agree in batch and head dim, with KV heads that divide the heads; "
            f"got q {tuple(q_BHTE.shape)} and k {tuple(k_BKSE.shape)}"
        )
    if query_offset < 0 or query_offset + new_tokens > keys:
        raise InputError(
            f"query_offset must leave the {new_tokens} queries among the {keys} keys; got {query_offset}; "
            "pass the number of cached tokens"
        )
