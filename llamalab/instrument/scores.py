"""The scores and the pattern of a few heads and rows, recomputed from queries and keys.

Fused attention never stores them. Only the requested ones are computed beside it: one row of one head costs S dot
products, not H x T x S of them.

B batch, T new tokens, S visible keys, H query heads, K KV heads, E head dim; N heads and R rows requested.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.instrument.selection import TensorPart, take

CHUNK_ELEMENTS = 2**19  # bytes of scores at a time, where they are only accumulated


class Mask(NamedTuple):
    """The mask of a transformers model on q k products: times `scale`, plus `bias_BHTS`.

    The bias is -inf, or the least number of its dtype, at hidden keys; its axes B, H and T may have size 1.
    """

    scale: float
    bias_BHTS: Tensor


def partial_scores(
    q_BHTE: Tensor, k_BKSE: Tensor, part: TensorPart, *, window: int | None = None, mask: Mask | None = None
) -> Tensor:
    """scores_BNRS, scaled and masked, of the chosen heads and tokens; without a mask the last query sees all keys.

    With a window it sees only the last of them.

    Raises InputError for a head or token out of range.
    """
    batch, heads, tokens, head_dim = q_BHTE.shape
    kv_heads, keys = k_BKSE.shape[1:3]
    row_T = torch.arange(keys - tokens, keys, device=q_BHTE.device)[:, None]
    row_R1 = take(row_T, 0, part.tokens, "tokens of scores")
    q_BHRE = take(q_BHTE, 2, part.tokens, "tokens of scores")
    if part.heads is None:
        # Query heads of a group become rows of one product, so that no key is copied.
        scores = q_BHRE.reshape(batch, kv_heads, -1, head_dim) @ k_BKSE.transpose(2, 3)
        scores_BNRS = scores.view(batch, heads, -1, keys)
    else:
        q_BNRE = take(q_BHRE, 1, part.heads, "heads of scores")
        head_N = take(torch.arange(heads, device=q_BHTE.device), 0, part.heads, "heads of scores")
        k_BNSE = k_BKSE.index_select(1, head_N // (heads // kv_heads))
        scores_BNRS = q_BNRE @ k_BNSE.transpose(2, 3)
    if mask is not None:
        return scores_BNRS * mask.scale + _rows_of(mask.bias_BHTS, part)
    key_S = torch.arange(keys, device=q_BHTE.device)
    unseen_RS = key_S > row_R1
    if window is not None:
        unseen_RS |= key_S <= row_R1 - window
    scores_BNRS = torch.mul(scores_BNRS, head_dim**-0.5)
    return scores_BNRS.masked_fill_(unseen_RS, float("-inf"))


def scores_and_pattern(scores_BNRS: Tensor, mask: Mask | None) -> tuple[Tensor, Tensor]:
    """The scores, -inf at hidden keys, and their softmax; a query without visible keys under a mask may have none.

    Where hidden keys have the least number instead of -inf, its softmax is uniform, as in the model.
    """
    if mask is None:
        return scores_BNRS, scores_BNRS.softmax(-1)
    none_seen = (scores_BNRS == float("-inf")).all(-1, keepdim=True)
    pattern_BNRS = scores_BNRS.softmax(-1).masked_fill(none_seen, 0.0)
    hidden = scores_BNRS <= torch.finfo(scores_BNRS.dtype).min / 2
    return scores_BNRS.masked_fill(hidden, float("-inf")), pattern_BNRS


def score_chunks(
    q_BHTE: Tensor, k_BKSE: Tensor, *, window: int | None = None, mask: Mask | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and pattern of all heads, some rows at a time, in order, in memory that does not grow with T."""
    batch, heads, tokens, _ = q_BHTE.shape
    rows = max(1, CHUNK_ELEMENTS // (batch * heads * k_BKSE.shape[2]))
    for start in range(0, tokens, rows):
        part = TensorPart(tokens=slice(start, start + rows))
        yield scores_and_pattern(partial_scores(q_BHTE, k_BKSE, part, window=window, mask=mask), mask)


def _rows_of(bias_BHTS: Tensor, part: TensorPart) -> Tensor:
    """The bias of the chosen heads and tokens; an axis of size 1 broadcasts."""
    if bias_BHTS.shape[1] > 1:
        bias_BHTS = take(bias_BHTS, 1, part.heads, "heads of scores")
    return bias_BHTS if bias_BHTS.shape[2] == 1 else take(bias_BHTS, 2, part.tokens, "tokens of scores")
