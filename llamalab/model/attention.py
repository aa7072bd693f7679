"""The attention block: project, normalise heads if the model does, rotate, append to the cache, attend, project back.

Local sizes are those of the tensors, so that a shard of the heads runs the same code.
B batch, T new tokens, S keys in view, D model dim, H query heads, K KV heads, E head dim, P = E / 2.
"""

import torch
from torch import Tensor, nn

from llamalab.arch import LlamaArch
from llamalab.attention import Backend, naive
from llamalab.attention.one_query import one_query
from llamalab.attention.shapes import check_shapes
from llamalab.model.kv_cache.ragged import RaggedLayerCache
from llamalab.model.kv_cache.static import LayerCache
from llamalab.model.norm import RMSNorm
from llamalab.model.rope import rotate
from llamalab.model.tap import Tap, tap_detecting_edit, wants


class Attention(nn.Module):
    """Grouped-query attention with Meta's names."""

    def __init__(
        self,
        arch: LlamaArch,
        layer: int,
        backend: Backend,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.head_dim, self.window = arch.head_dim, arch.window_of(layer)
        self.use(backend)
        self.prefix = f"layers.{layer}.attention."
        self.wq = nn.Linear(arch.dim, arch.query_dim, bias=arch.qkv_bias, dtype=dtype, device=device)
        self.wk = nn.Linear(arch.dim, arch.kv_dim, bias=arch.qkv_bias, dtype=dtype, device=device)
        self.wv = nn.Linear(arch.dim, arch.kv_dim, bias=arch.qkv_bias, dtype=dtype, device=device)
        self.q_norm = RMSNorm(arch.head_dim, arch.norm_eps, dtype=dtype, device=device) if arch.qk_norm else None
        self.k_norm = RMSNorm(arch.head_dim, arch.norm_eps, dtype=dtype, device=device) if arch.qk_norm else None
        self.wo = nn.Linear(arch.query_dim, arch.dim, bias=arch.o_bias, dtype=dtype, device=device)

    def use(self, backend: Backend) -> None:
        """Compute attention by `backend` from now on."""
        self.backend = backend
        # Not every backend of the naive algorithm shows its steps: torch's math kernel does not.
        self._has_scores = backend.attend is naive.attend

    def forward(
        self,
        x_BTD: Tensor,
        turn_TP: Tensor,
        *,
        cache: LayerCache | RaggedLayerCache | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        q_BHTE = self._heads(self.wq(x_BTD))
        q_BHTE = q_BHTE if tap is None else tap(self.prefix + "q", q_BHTE)
        k_BKTE = self._heads(self.wk(x_BTD))
        k_BKTE = k_BKTE if tap is None else tap(self.prefix + "k", k_BKTE)
        v_BKTE = self._heads(self.wv(x_BTD))
        v_BKTE = v_BKTE if tap is None else tap(self.prefix + "v", v_BKTE)
        if self.q_norm is not None and self.k_norm is not None:
            q_BHTE = _normed(self.q_norm, q_BHTE)
            q_BHTE = q_BHTE if tap is None else tap(self.prefix + "q_norm", q_BHTE)
            k_BKTE = _normed(self.k_norm, k_BKTE)
            k_BKTE = k_BKTE if tap is None else tap(self.prefix + "k_norm", k_BKTE)
        q_BHTE = rotate(q_BHTE, turn_TP)
        q_BHTE = q_BHTE if tap is None else tap(self.prefix + "rot_q", q_BHTE)
        k_BKTE = rotate(k_BKTE, turn_TP)
        k_BKTE = k_BKTE if tap is None else tap(self.prefix + "rot_k", k_BKTE)
        if isinstance(cache, RaggedLayerCache):
            return self._merge(self._attend_rows(q_BHTE, k_BKTE, v_BKTE, cache))
        # Without a cache the keys in view are the new ones.
        k_BKSE, v_BKSE = k_BKTE, v_BKTE
        if cache is not None:
            k_BKSE, v_BKSE = cache.append(k_BKTE, v_BKTE, ordered=tap is not None)
        k_BKSE = k_BKSE if tap is None else tap(self.prefix + "k_cache", k_BKSE)
        v_BKSE = v_BKSE if tap is None else tap(self.prefix + "v_cache", v_BKSE)
        z_BHTE = self._attend(q_BHTE, k_BKSE, v_BKSE, tap)
        z_BHTE = z_BHTE if tap is None else tap(self.prefix + "z", z_BHTE)
        return self._merge(z_BHTE)

    def _heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.view(*x_BTD.shape[:2], -1, self.head_dim).transpose(1, 2)

    def _merge(self, z_BHTE: Tensor) -> Tensor:
        out_BTD: Tensor = self.wo(z_BHTE.transpose(1, 2).flatten(2))
        return out_BTD

    def _attend_rows(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, cache: RaggedLayerCache) -> Tensor:
        """z_BHTE of rows with separate caches: in one call where these are adjacent in memory."""
        if cache.at_once is not None and cache.hidden_BS is not None and q_BHTE.shape[2] == 1:
            return one_query(q_BHTE, *cache.at_once.append(k_BKTE, v_BKTE), cache.hidden_BS)
        z_rows = []
        for b, row in enumerate(cache.rows):
            own = slice(b, b + 1)
            k_1KSE, v_1KSE = row.append(k_BKTE[own], v_BKTE[own])
            z_rows.append(self._attend(q_BHTE[own], k_1KSE, v_1KSE, None))
        return torch.cat(z_rows)

    def _attend(self, q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, tap: Tap | None) -> Tensor:
        query_offset = k_BKSE.shape[2] - q_BHTE.shape[2]
        if tap is None or not self._shows_scores(tap):
            if tap is not None and hasattr(tap, "attended"):
                tap.attended(self.prefix, q_BHTE, k_BKSE, window=self.window)
            return self.backend.attend(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=self.window)
        check_shapes(q_BHTE, k_BKSE, v_BKSE, query_offset)
        scores_BHTS = naive.scores(q_BHTE, k_BKSE, query_offset=query_offset, window=self.window)
        scores_BHTS, scores_edited = tap_detecting_edit(tap, self.prefix + "scores", scores_BHTS)
        pattern_BHTS = naive.pattern(scores_BHTS)
        pattern_BHTS, pattern_edited = tap_detecting_edit(tap, self.prefix + "pattern", pattern_BHTS)
        if self._has_scores or scores_edited or pattern_edited:
            return naive.values(pattern_BHTS, v_BKSE)
        return self.backend.attend(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=self.window)

    def _shows_scores(self, tap: Tap) -> bool:
        """Whether taps get scores and pattern: always from naive attention, on demand from other kinds."""
        if self._has_scores:
            return True
        return wants(tap, self.prefix + "scores") or wants(tap, self.prefix + "pattern")


def _normed(norm: RMSNorm, x_BHTE: Tensor) -> Tensor:
    """Each head normalised in its memory layout, tokens before heads, so that nothing is copied."""
    normed_BTHE: Tensor = norm(x_BHTE.transpose(1, 2))
    return normed_BTHE.transpose(1, 2)
