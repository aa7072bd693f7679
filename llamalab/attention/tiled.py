"""Flash attention without a score matrix: the algorithm in readable PyTorch.

For a tile of queries, K and V are streamed past in tiles of keys. Of the softmax only three things
are kept per query: the largest score so far m, the sum l of exp(score - m), and the output so far,
acc = sum of exp(score - m) * v. A new tile with a larger maximum rescales l and acc by
exp(m_old - m_new), so that the result is exact, not approximate. At the end z = acc / l, and the
log-sum-exp m + log(l) is all that another pass needs to rebuild any row of the pattern
(Dao et al. 2022, arXiv 2205.14135, algorithm 1; loop order of FlashAttention-2, arXiv 2307.08691).

The query heads of a group share the tile, so K and V are read once per group. Every tensor that a
kernel would load from or store to memory passes through `Traffic`, which counts its bytes as they
move: the IO formula of llamalab.analytic.attention_cost is tested against this count.
"""

import math
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.analytic.attention_cost import QUERY_TILE
from llamalab.attention.shapes import in_view

KEY_TILE = 128


class Traffic:
    """Bytes moved between memory and chip, by tensor, and query-key pairs computed."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.pairs = 0

    def load(self, name: str, tensor: Tensor) -> Tensor:
        """Count `tensor` as read; returns it in the precision that the chip computes in."""
        self.read[name] += tensor.numel() * tensor.element_size()
        return tensor.to(_compute_dtype(tensor))

    def store(self, name: str, target: Tensor, value: Tensor) -> None:
        """Write `value` to memory and count it."""
        target.copy_(value)
        self.written[name] += target.numel() * target.element_size()


class Tiled(NamedTuple):
    """The output, the log-sum-exp of each query's scores (fp32 or wider), and what was moved."""

    z_BHTE: Tensor
    lse_BHT: Tensor
    traffic: Traffic


class _Running(NamedTuple):
    """What is kept per query between two tiles of keys; R counts a group's heads and a tile's queries."""

    max_BKR1: Tensor
    sum_BKR1: Tensor
    acc_BKRE: Tensor


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """Causal attention, tile by tile; query t sees keys 0 .. query_offset + t, or the last `window` of them."""
    return tiled_attention(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window).z_BHTE


def tiled_attention(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    *,
    query_offset: int,
    window: int | None = None,
    query_tile: int = QUERY_TILE,
    key_tile: int = KEY_TILE,
) -> Tiled:
    """Causal attention with its log-sum-exp and the bytes it moved. Raises InputError on a misfit of shapes.

    >>> one = torch.ones(1, 1, 1, 16)
    >>> tiled = tiled_attention(one, one, one, query_offset=0)
    >>> tiled.lse_BHT.item(), dict(tiled.traffic.read)
    (4.0, {'q': 64, 'k': 64, 'v': 64})
    """
    k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    batch, _, new_tokens, head_dim = q_BHTE.shape
    grouped = (batch, k_BKSE.shape[1], -1, new_tokens, head_dim)
    # Views, not copies: the query heads of a group become an axis of their own.
    q_BKGTE, z_BKGTE = q_BHTE.view(grouped), torch.empty_like(q_BHTE).view(grouped)
    lse_BKGT = q_BHTE.new_empty(q_BKGTE.shape[:-1], dtype=_compute_dtype(q_BHTE))
    traffic = Traffic()
    for start in range(0, new_tokens, query_tile):
        tile = slice(start, min(start + query_tile, new_tokens))
        q_BKGtE = traffic.load("q", q_BKGTE[..., tile, :])
        position_R = _positions(q_BKGtE, query_offset + start)
        first = 0 if window is None else max(query_offset + start - window + 1, 0)  # of the tile's first query
        seen = range(first, query_offset + tile.stop)  # up to the last query's own key
        running = _stream_keys(q_BKGtE.flatten(2, 3), k_BKSE, v_BKSE, seen, position_R, window, key_tile, traffic)
        z_BKRE = running.acc_BKRE / running.sum_BKR1
        lse_BKR = (running.max_BKR1 + running.sum_BKR1.log()).squeeze(-1)
        traffic.store("z", z_BKGTE[..., tile, :], z_BKRE.view_as(q_BKGtE))
        traffic.store("lse", lse_BKGT[..., tile], lse_BKR.view(q_BKGtE.shape[:-1]))
    return Tiled(z_BKGTE.flatten(1, 2), lse_BKGT.flatten(1, 2), traffic)


def _stream_keys(
    q_BKRE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    seen: range,
    position_R: Tensor,
    window: int | None,
    key_tile: int,
    traffic: Traffic,
) -> _Running:
    """One tile of queries against the keys that it sees, tile by tile."""
    running = _Running(
        q_BKRE.new_full((*q_BKRE.shape[:-1], 1), -math.inf),
        q_BKRE.new_zeros((*q_BKRE.shape[:-1], 1)),
        torch.zeros_like(q_BKRE),
    )
    for start in seen[::key_tile]:
        keys = slice(start, min(start + key_tile, seen.stop))
        k_BKsE = traffic.load("k", k_BKSE[:, :, keys])
        v_BKsE = traffic.load("v", v_BKSE[:, :, keys])
        scores_BKRs = q_BKRE @ k_BKsE.transpose(-2, -1) * q_BKRE.shape[-1] ** -0.5
        traffic.pairs += scores_BKRs.numel()
        key_s = torch.arange(keys.start, keys.stop, device=q_BKRE.device)
        scores_BKRs.masked_fill_(key_s > position_R[:, None], -math.inf)
        if window is not None:
            scores_BKRs.masked_fill_(key_s <= position_R[:, None] - window, -math.inf)
        running = _update(running, scores_BKRs, v_BKsE)
    return running


def _update(running: _Running, scores_BKRs: Tensor, v_BKsE: Tensor) -> _Running:
    """The online softmax: take one more tile of scores in."""
    max_BKR1 = torch.maximum(running.max_BKR1, scores_BKRs.amax(-1, keepdim=True))
    # A row whose window begins in a later tile has the maximum -inf so far, and -inf - -inf is not a number.
    finite_BKR1 = max_BKR1.masked_fill(max_BKR1 == -math.inf, 0.0)
    pattern_BKRs = torch.exp(scores_BKRs - finite_BKR1)
    rescale_BKR1 = torch.exp(running.max_BKR1 - finite_BKR1)
    return _Running(
        max_BKR1,
        running.sum_BKR1 * rescale_BKR1 + pattern_BKRs.sum(-1, keepdim=True),
        running.acc_BKRE * rescale_BKR1 + pattern_BKRs @ v_BKsE,
    )


def _positions(q_BKGtE: Tensor, first: int) -> Tensor:
    """Where in the context each row of the flattened tile stands: the tile's positions, once per head of a group."""
    group, rows = q_BKGtE.shape[2:4]
    return torch.arange(first, first + rows, device=q_BKGtE.device).repeat(group)


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    """fp32, as kernels accumulate in; fp64 stays fp64."""
    return torch.promote_types(tensor.dtype, torch.float32)
