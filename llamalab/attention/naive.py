"""Attention in separate operations: softmax(Q K^T * E**-0.5 + mask) V.

Scores and pattern exist in memory, T x S per head: the reference for the fused kernels, and the only backend whose
scores taps can read. Keys and values are never expanded to the query heads: the G query heads of a group become the
rows of one matrix product.

B batch, T new tokens, S keys in view, H query heads, K KV heads, G = H / K, E head dim.
"""

import torch
from torch import Tensor

from llamalab.attention.shapes import check_shapes, in_view


def scores(q_BHTE: Tensor, k_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """Scaled and masked scores_BHTS; -inf where a key is later than its query, or out of its window."""
    batch, heads, new_tokens, head_dim = q_BHTE.shape
    kv_heads, keys = k_BKSE.shape[1:3]
    # alpha scales inside the product: no extra pass over T x S, and no extra rounding of it.
    scores_NRS = torch.baddbmm(
        q_BHTE.new_empty(1),
        q_BHTE.reshape(batch * kv_heads, -1, head_dim),
        k_BKSE.reshape(batch * kv_heads, keys, head_dim).transpose(1, 2),
        beta=0,
        alpha=head_dim**-0.5,
    )
    scores_BHTS = scores_NRS.view(batch, heads, new_tokens, keys)
    # Keys up to query_offset precede every query: only the columns after them are masked.
    masked_columns = keys - query_offset - 1
    if masked_columns:
        later = torch.ones(new_tokens, masked_columns, dtype=torch.bool, device=q_BHTE.device).triu()
        scores_BHTS[..., query_offset + 1 :].masked_fill_(later, float("-inf"))
    # Of the last query the first so many keys are out of the window; of those before it fewer.
    left_behind = 0 if window is None else max(query_offset + new_tokens - window, 0)
    if window is not None and left_behind:
        earlier = torch.ones(new_tokens, left_behind, dtype=torch.bool, device=q_BHTE.device)
        scores_BHTS[..., :left_behind].masked_fill_(earlier.tril(query_offset - window), float("-inf"))
    return scores_BHTS


def pattern(scores_BHTS: Tensor) -> Tensor:
    """The softmax over keys, in the dtype of the scores."""
    # torch computes it in fp32 for half types and rounds once; asking for fp32 would store it so first.
    return torch.softmax(scores_BHTS, dim=-1)


def values(pattern_BHTS: Tensor, v_BKSE: Tensor) -> Tensor:
    """z_BHTE: the values of each query's keys, weighted by its pattern."""
    batch, heads, new_tokens, keys = pattern_BHTS.shape
    kv_heads, head_dim = v_BKSE.shape[1], v_BKSE.shape[3]
    z_NRE = torch.bmm(
        pattern_BHTS.reshape(batch * kv_heads, -1, keys),
        v_BKSE.reshape(batch * kv_heads, keys, head_dim),
    )
    return z_NRE.view(batch, heads, new_tokens, head_dim)


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """z_BHTE by the three steps; raises InputError for shapes that do not belong together."""
    check_shapes(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    if window is not None:
        k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    return values(pattern(scores(q_BHTE, k_BKSE, query_offset=query_offset, window=window)), v_BKSE)
