"""The check that shapes of queries, keys and values agree, once for all backends.

B batch, T new tokens, S keys in view, H query heads, K KV heads, E head dim.
"""

from typing import NamedTuple

from torch import Tensor

from llamalab.errors import InputError


class View(NamedTuple):
    """The keys and values visible to some query, and the remaining mask."""

    k_BKSE: Tensor
    v_BKSE: Tensor
    query_offset: int
    window: int | None


def in_view(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, query_offset: int, window: int | None) -> View:
    """Check the shapes, and drop keys that are later than all queries or before the first one's window.

    `window` is None where every remaining key is in every query's window, as always for one query. Raises InputError.
    """
    check_shapes(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    stop = query_offset + q_BHTE.shape[2]
    first = 0 if window is None else max(query_offset - window + 1, 0)
    if first or stop < k_BKSE.shape[2]:
        k_BKSE, v_BKSE = k_BKSE[:, :, first:stop], v_BKSE[:, :, first:stop]
    bounded = window is not None and stop - first > window
    return View(k_BKSE, v_BKSE, query_offset - first, window if bounded else None)


def check_shapes(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, query_offset: int, window: int | None = None) -> None:
    """Raise InputError unless B and E agree, K divides H, and every query's own key is in view and in its window."""
    if window is not None and window < 1:
        raise InputError(f"window of attention must be at least 1 key, a query's own; got {window}")
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
