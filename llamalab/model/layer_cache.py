"""Keys and values of past tokens in one layer: in order, or in a ring where its window is full.

A ring of W places holds the token at position p in place p % W: the new token takes the place of the one that has
just left the window. One query sees all that is there, in whatever order: each key has its position written into it.
Several queries are shown the last W - 1 keys and their own in order, put together in a new tensor.

B batch, K KV heads, S keys in view, T new tokens, W window, E head dim.
"""

import torch
from torch import Tensor

from llamalab.errors import CacheOverflowError, InputError

_FP8_MAX = torch.finfo(torch.float8_e4m3fn).max


class StaticLayerCache:
    """The buffers of one layer as they are at the beginning of a pass: keys_BKSE, values_BKSE and their scales_BKS."""

    def __init__(
        self, keys: Tensor, values: Tensor, key_scales: Tensor | None, value_scales: Tensor | None, *, length: int
    ) -> None:
        self.keys, self.values, self.length = keys, values, length
        self.key_scales, self.value_scales = key_scales, value_scales

    def append(self, k_BKTE: Tensor, v_BKTE: Tensor, *, ordered: bool = False) -> tuple[Tensor, Tensor]:
        """Write new keys and values after `length`; return views_BKSE of all that is filled, which is in order.

        The views have the dtype of the arguments; they are decoded copies where the storage has another. Raises
        InputError for a shape or device that is not this cache's and CacheOverflowError past the end, before anything
        is written.
        """
        self._check(k_BKTE, v_BKTE)
        stop, max_tokens = self.length + k_BKTE.shape[2], self.keys.shape[2]
        if stop > max_tokens:
            raise CacheOverflowError(f"a KV cache of {max_tokens} tokens must not be written to {stop}")
        return (
            _write_and_view(self.keys, self.key_scales, k_BKTE.detach(), self.length, stop),
            _write_and_view(self.values, self.value_scales, v_BKTE.detach(), self.length, stop),
        )

    def _check(self, k_BKTE: Tensor, v_BKTE: Tensor) -> None:
        batch, kv_heads, _, head_dim = self.keys.shape
        expected = (batch, kv_heads, k_BKTE.shape[2] if k_BKTE.dim() == 4 else -1, head_dim)
        if k_BKTE.shape != expected or v_BKTE.shape != expected:
            raise InputError(
                f"keys and values must be of shape ({batch}, {kv_heads}, new tokens, {head_dim}); "
                f"got {tuple(k_BKTE.shape)} and {tuple(v_BKTE.shape)}"
            )
        if k_BKTE.device != self.keys.device:
            raise InputError(f"keys must be on the device of the KV cache, {self.keys.device}; got {k_BKTE.device}")


class SlidingLayerCache(StaticLayerCache):
    """A cache in order while its window has room, then a ring."""

    def append(self, k_BKTE: Tensor, v_BKTE: Tensor, *, ordered: bool = False) -> tuple[Tensor, Tensor]:
        """Write new keys and values, over those that leave the window; return all that some new query sees.

        One query is shown the ring as it lies, without a copy, unless they are to be `ordered`. Raises InputError
        for a shape or device that is not this cache's.
        """
        if self.length + k_BKTE.shape[2] <= self.keys.shape[2]:
            return super().append(k_BKTE, v_BKTE)
        self._check(k_BKTE, v_BKTE)
        turn = self._turn_one if k_BKTE.shape[2] == 1 and not ordered else self._turn
        return (
            turn(self.keys, self.key_scales, k_BKTE.detach()),
            turn(self.values, self.value_scales, v_BKTE.detach()),
        )

    def _turn_one(self, store: Tensor, scales: Tensor | None, x_BK1E: Tensor) -> Tensor:
        window = store.shape[2]
        place = self.length % window
        _write(store, scales, x_BK1E, place)
        return _decoded(store, scales, x_BK1E.dtype)

    def _turn(self, store: Tensor, scales: Tensor | None, x_BKTE: Tensor) -> Tensor:
        window, new_tokens = store.shape[2], x_BKTE.shape[2]
        stop, past = self.length + new_tokens, min(self.length, window - 1)
        before_P = torch.arange(self.length - past, self.length, device=store.device) % window
        before_BKPE = _decoded(store, scales, x_BKTE.dtype, before_P)
        coded_BKTE, scale_BKT = _coded(x_BKTE, store.dtype)
        now_BKTE = _decoded(coded_BKTE.to(store.dtype), scale_BKT, x_BKTE.dtype)
        kept = min(new_tokens, window)
        place_N = torch.arange(stop - kept, stop, device=store.device) % window
        store[:, :, place_N] = coded_BKTE[:, :, -kept:].to(store.dtype)
        if scales is not None and scale_BKT is not None:
            scales[:, :, place_N] = scale_BKT[:, :, -kept:]
        return torch.cat((before_BKPE, now_BKTE), dim=2) if past else now_BKTE


class RowsLayerCache:
    """Sequences of several lengths side by side in one buffer, before a pass of one token each.

    `place_B` is where each is filled to.
    """

    def __init__(self, stores: StaticLayerCache, place_B: Tensor, longest: int) -> None:
        self.stores, self.place_B, self.stop = stores, place_B, longest + 1
        self._row_B = torch.arange(len(place_B), device=place_B.device)

    def append(self, k_BK1E: Tensor, v_BK1E: Tensor) -> tuple[Tensor, Tensor]:
        """Write a key and a value of each; return views_BKSE up to the longest, with what lies after shorter ones."""
        own = self.stores
        return (
            self._written(own.keys, own.key_scales, k_BK1E.detach()),
            self._written(own.values, own.value_scales, v_BK1E.detach()),
        )

    def _written(self, store: Tensor, scales: Tensor | None, x_BK1E: Tensor) -> Tensor:
        coded_BK1E, scale_BK1 = _coded(x_BK1E, store.dtype)
        store[self._row_B, :, self.place_B] = coded_BK1E[:, :, 0].to(store.dtype)
        if scales is not None and scale_BK1 is not None:
            scales[self._row_B, :, self.place_B] = scale_BK1[:, :, 0]
        seen = slice(0, self.stop)
        return _decoded(store[:, :, seen], None if scales is None else scales[:, :, seen], x_BK1E.dtype)


def _write_and_view(store: Tensor, scales: Tensor | None, x_BKTE: Tensor, start: int, stop: int) -> Tensor:
    _write(store, scales, x_BKTE, start)
    return _decoded(store[:, :, :stop], None if scales is None else scales[:, :, :stop], x_BKTE.dtype)


def _write(store: Tensor, scales: Tensor | None, x_BKTE: Tensor, start: int) -> None:
    new = slice(start, start + x_BKTE.shape[2])
    store[:, :, new], scale_BKT = _coded(x_BKTE, store.dtype)
    if scales is not None and scale_BKT is not None:
        scales[:, :, new] = scale_BKT


def _coded(x_BKTE: Tensor, stored: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Values converted to the storage dtype, and the scales_BKT of int8."""
    if stored == torch.int8:
        scale_BKT = x_BKTE.abs().amax(-1).float() / 127
        # A token of zeros has scale 0: it divides by 1 instead and stays 0.
        divisor_BKT1 = torch.where(scale_BKT == 0, 1.0, scale_BKT).unsqueeze(-1)
        return (x_BKTE.float() / divisor_BKT1).round().to(torch.int8), scale_BKT
    # Clamped here, since older versions of torch convert values out of range to NaN.
    return (x_BKTE.clamp(-_FP8_MAX, _FP8_MAX) if stored == torch.float8_e4m3fn else x_BKTE), None


def _decoded(store: Tensor, scales: Tensor | None, dtype: torch.dtype, places: Tensor | None = None) -> Tensor:
    if places is not None:
        store, scales = store[:, :, places], None if scales is None else scales[:, :, places]
    return store.to(dtype) if scales is None else _scaled(store, scales, dtype)


def _scaled(coded_BKTE: Tensor, scale_BKT: Tensor, dtype: torch.dtype) -> Tensor:
    return (coded_BKTE.float() * scale_BKT.unsqueeze(-1)).to(dtype)
