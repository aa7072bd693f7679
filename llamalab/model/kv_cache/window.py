"""A KV cache for CUDA graphs: the position of the next token is in a tensor.

A CUDA graph repeats the same operations on the same addresses. So the new keys go to where the position says, and
attention reads a window of W places, of which those behind the position are masked.

B batch, K KV heads, S keys in view, W window, E head dim.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.attention import Backend, naive
from llamalab.errors import InputError
from llamalab.model.kv_cache.static import StaticKVCache
from llamalab.model.transformer import Transformer


class WindowKVCache:
    """The first `window` places of a static cache, for one new token at `position_1`, which the caller sets.

    Room is not checked: the position is known to the device only.
    """

    def __init__(self, cache: StaticKVCache, window: int) -> None:
        self.position_1 = torch.zeros(1, dtype=torch.int64, device=cache.keys[0].device)
        self._cache, self._window = cache, window
        self._place_W = torch.arange(window, device=self.position_1.device)
        self._unfilled_W = self._place_W > self.position_1

    @property
    def length(self) -> Tensor:
        """The position of the next token."""
        return self.position_1

    def check_room(self, arch: LlamaArch, batch: int, new_tokens: int) -> None:
        """Raise InputError for more than one new token. A pass begins here: its mask is made, once for all layers."""
        if new_tokens != 1:
            raise InputError(f"a window of a KV cache takes one new token at a time; got {new_tokens}")
        self._unfilled_W = self._place_W > self.position_1

    def at(self, layer: int) -> "WindowLayerCache":
        """One layer's part."""
        return WindowLayerCache(self._cache.keys[layer], self._cache.values[layer], self.position_1, self._window)

    def advance(self, new_tokens: int) -> None:
        """Nothing happens: the caller sets the position."""

    @contextmanager
    def attended_by(self, model: Transformer) -> Iterator[None]:
        """Inside the block the model's attention applies the mask of this window."""
        before = model.backend
        model.use_attention(Backend("window", "naive", self._attend))
        try:
            yield
        finally:
            model.use_attention(before)

    def _attend(
        self, q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None
    ) -> Tensor:
        # A sliding window needs no mask of its own: its layer's cache holds no more than that.
        scores_BHTS = naive.scores(q_BHTE, k_BKSE, query_offset=query_offset)
        unfilled_S = self._unfilled_W[: k_BKSE.shape[2]]
        return naive.values(naive.pattern(scores_BHTS.masked_fill(unfilled_S, float("-inf"))), v_BKSE)


class WindowLayerCache:
    """One layer's keys_BKSE and values_BKSE, written to where a tensor says."""

    def __init__(self, keys: Tensor, values: Tensor, position_1: Tensor, window: int) -> None:
        self.keys, self.values, self.position_1, self.window = keys, values, position_1, window

    def append(self, k_BK1E: Tensor, v_BK1E: Tensor, *, ordered: bool = False) -> tuple[Tensor, Tensor]:
        """Write the new token's keys and values at the position; return the window, a full ring as it lies."""
        place_1 = self.position_1 % self.keys.shape[2]
        self.keys.index_copy_(2, place_1, k_BK1E.to(self.keys.dtype))
        self.values.index_copy_(2, place_1, v_BK1E.to(self.values.dtype))
        return self.keys[:, :, : self.window].to(k_BK1E.dtype), self.values[:, :, : self.window].to(v_BK1E.dtype)
