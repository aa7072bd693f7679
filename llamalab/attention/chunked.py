"""Attention over chunks of queries: scores exist for a few queries at a time, and no masked block is computed.

    for each chunk of C queries: softmax(Q_chunk K[:end]^T * E**-0.5 + mask) V[:end]

C is 128, the fastest of 64, 128 and 256. The matrix products are large enough to run at full rate, and a chunk's scores
stay in the caches. On CPUs whose fused kernel multiplies bf16 without units for it this is several times faster than
that kernel (docs/decisions.md); one new token is a single chunk. Chunking of queries is due to Rabe & Staats 2021,
arXiv 2112.05682, here without chunks of keys.

B batch, T new tokens, S keys in view, H query heads, K KV heads, E head dim.
"""

import torch
from torch import Tensor

from llamalab.analytic.attention_cost import QUERY_CHUNK
from llamalab.attention import naive
from llamalab.attention.one_query import one_query
from llamalab.attention.shapes import in_view


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """z_BHTE, chunk by chunk; raises InputError for shapes that do not belong together."""
    k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    if q_BHTE.shape[2] == 1:
        return one_query(q_BHTE, k_BKSE, v_BKSE)
    z_chunks, start = [], query_offset
    for chunk in torch.split(q_BHTE, QUERY_CHUNK, dim=2):
        end = start + chunk.shape[2]
        z_chunks.append(naive.attend(chunk, k_BKSE[:, :, :end], v_BKSE[:, :, :end], query_offset=start, window=window))
        start = end
    return z_chunks[0] if len(z_chunks) == 1 else torch.cat(z_chunks, dim=2)
