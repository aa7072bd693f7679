"""The scores and the pattern of a few heads and rows, recomputed from queries and keys.

Fused attention never has them in memory. What is asked for is computed beside it, and only that:
one row of one head costs S products, not H x T x S of them.

B batch, T new tokens, S keys in view, H query heads, K KV heads, E head dim; N heads and R rows asked for.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from llamalab.instrument.selection import Part, take

CHUNK_ELEMENTS = 2**19  # of scores at a time, where they are only added up


def partial_scores(q_BHTE: Tensor, k_BKSE: Tensor, part: Part, *, window: int | None = None) -> Tensor:
    """scores_BNRS, scaled and masked, of the part's heads and tokens; the last query sees all keys, or its window's.

    Raises InputError for a head or token that is not there.
    """
    batch, heads, tokens, head_dim = q_BHTE.shape
    kv_heads, keys = k_BKSE.shape[1:3]
    row_T = torch.arange(keys - tokens, keys, device=q_BHTE.device)[:, None]
    row_R1 = take(row_T, 0, part.tokens, "tokens of scores")
    q_BHRE = take(q_BHTE, 2, part.tokens, "tokens of scores")
    if part.heads is None:
        # The query heads of a group are folded into the rows of one product: no key is copied.
        scores = q_BHRE.reshape(batch, kv_heads, -1, head_dim) @ k_BKSE.transpose(2, 3)
        scores_BNRS = scores.view(batch, heads, -1, keys)
    else:
        q_BNRE = take(q_BHRE, 1, part.heads, "heads of scores")
        head_N = take(torch.arange(heads, device=q_BHTE.device), 0, part.heads, "heads of scores")
        k_BNSE = k_BKSE.index_select(1, head_N // (heads // kv_heads))
        scores_BNRS = q_BNRE @ k_BNSE.transpose(2, 3)
    key_S = torch.arange(keys, device=q_BHTE.device)
    unseen_RS = key_S > row_R1
    if window is not None:
        unseen_RS |= key_S <= row_R1 - window
    scores_BNRS = torch.mul(scores_BNRS, head_dim**-0.5)
    return scores_BNRS.masked_fill_(unseen_RS, float("-inf"))


def score_chunks(q_BHTE: Tensor, k_BKSE: Tensor, *, window: int | None = None) -> Iterator[Tensor]:
    """The scores of all heads, some rows at a time, in order: memory that does not grow with T."""
    batch, heads, tokens, _ = q_BHTE.shape
    rows = max(1, CHUNK_ELEMENTS // (batch * heads * k_BKSE.shape[2]))
    for start in range(0, tokens, rows):
        yield partial_scores(q_BHTE, k_BKSE, Part(tokens=slice(start, start + rows)), window=window)
