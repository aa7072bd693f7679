"""Keys and values of past tokens in static buffers, owned by the caller.

    keys, values: a tensor (B, K, S_max, E) per layer; bytes = 2 * L * B * K * S_max * E * bytes per element

A layer with a sliding window has room for that many tokens and no more (llamalab.model.layer_cache). Keys are stored
rotated. What is handed out are views of exactly the filled length, so that the bytes an attention step reads are the
analytic ones. Storage narrower than the activations is decoded on
read: int8 is symmetric with one fp32 scale (largest magnitude / 127) per token and KV head, fp8 is
e4m3, cut at its largest value.

L layers, B batch, K KV heads, S keys in view, T new tokens, E head dim.
"""

from copy import copy
from typing import Protocol

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.errors import CacheOverflowError, DoesNotFitError, InputError
from llamalab.model.dtypes import torch_device, torch_dtype
from llamalab.model.layer_cache import SlidingLayerCache, StaticLayerCache


class LayerCache(Protocol):
    """The interface of one layer's cache for attention: see StaticLayerCache."""

    def append(self, k_BKTE: Tensor, v_BKTE: Tensor, *, ordered: bool = False) -> tuple[Tensor, Tensor]:
        """Store the layer's new keys and values; return all that are in view, by position if `ordered`."""


class KVCache(Protocol):
    """The interface of a cache for a model: see StaticKVCache."""

    @property
    def length(self) -> int | Tensor:
        """Tokens that are filled."""

    def check_room(self, arch: LlamaArch, batch: int, new_tokens: int) -> None:
        """Raise before any work where the tokens do not belong here."""

    def at(self, layer: int) -> LayerCache:
        """One layer's part, for the pass at hand."""

    def advance(self, new_tokens: int) -> None:
        """Count `new_tokens` as filled."""


class StaticKVCache:
    """Room for `max_tokens` tokens of `batch` sequences.

    `length` tokens are filled; it moves once per forward pass, when all layers are done. Gradients
    are not kept. Raises InputError for sizes below 1, DoesNotFitError where memory ends.

    >>> from llamalab.presets import PRESETS
    >>> cache = StaticKVCache(PRESETS["7b"].arch, batch=16, max_tokens=4096, dtype="bf16", device="meta")
    >>> cache.nbytes
    34359738368
    """

    def __init__(
        self,
        arch: LlamaArch,
        *,
        batch: int,
        max_tokens: int,
        dtype: str,
        device: str | torch.device | None = None,
    ) -> None:
        for what, size in (("batch", batch), ("max_tokens", max_tokens)):
            if type(size) is not int or size < 1:
                raise InputError(f"{what} of a KV cache must be a whole number of at least 1; got {size!r}")
        stored, place = torch_dtype(dtype), torch_device("cpu" if device is None else device)
        rooms = [min(max_tokens, arch.window_of(layer) or max_tokens) for layer in range(arch.n_layers)]

        def of_each_layer(*per_token: int, kind: torch.dtype) -> list[Tensor]:
            # Not one buffer for all: a compiled pass that writes to a part of a tensor may copy the rest.
            return [torch.zeros(batch, arch.n_kv_heads, room, *per_token, dtype=kind, device=place) for room in rooms]

        try:
            self.keys = of_each_layer(arch.head_dim, kind=stored)
            self.values = of_each_layer(arch.head_dim, kind=stored)
            scaled = dtype == "int8"
            self.key_scales = of_each_layer(kind=torch.float32) if scaled else []
            self.value_scales = of_each_layer(kind=torch.float32) if scaled else []
        except RuntimeError as error:
            raise DoesNotFitError(
                f"a KV cache of {batch} x {max_tokens} tokens in {dtype} must fit on {place}; it does not; "
                "take fewer tokens, a smaller batch or a narrower dtype"
            ) from error
        self.batch, self.max_tokens, self.dtype = batch, max_tokens, dtype
        self.home: tuple[StaticKVCache, int] | None = None  # the cache whose buffers it shares, and its place there
        self._windows = (arch.window, arch.full_layers)
        self._ring = None if arch.window is None or arch.window >= max_tokens else arch.window
        self._length = self._reached = 0

    @property
    def length(self) -> int:
        """Tokens that are filled: the position of the next one."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, filled or not, without scales."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    @property
    def scale_nbytes(self) -> int:
        """Bytes of the scales of an int8 cache, 0 for others."""
        return sum(scales.nbytes for scales in (*self.key_scales, *self.value_scales))

    def row(self, place: int) -> "StaticKVCache":
        """The sequence at that place of the batch as a cache of its own length, empty, in the same memory.

        Rows of one cache that run together attend in one call (llamalab.model.kv_cache.ragged). Raises InputError for a
        place that is none.

        >>> from llamalab.presets import PRESETS
        >>> rows = StaticKVCache(PRESETS["stories260k"].arch, batch=2, max_tokens=8, dtype="fp32")
        >>> rows.row(1).batch, rows.row(1).nbytes == rows.nbytes // 2
        (1, True)
        """
        if not 0 <= place < self.batch:
            raise InputError(f"a row of this KV cache must be from 0 to {self.batch - 1}; got {place}")
        made = copy(self)
        made.batch, made._length, made._reached = 1, 0, 0
        made.settle(self, place)
        return made

    def settle(self, home: "StaticKVCache", place: int) -> None:
        """Move to that place of another cache, with all that is filled so far."""
        before = self.stores
        self.keys, self.values, self.key_scales, self.value_scales = (
            [store[place : place + 1] for store in stores] for stores in home.stores
        )
        if self._length:
            for olds, news in zip(before, self.stores, strict=True):
                for old, new in zip(olds, news, strict=True):
                    new.copy_(old)
        self.home = (home, place)

    @property
    def stores(self) -> tuple[list[Tensor], ...]:
        """Keys, values and their scales, each a tensor a layer; no scales where the storage has none."""
        return self.keys, self.values, self.key_scales, self.value_scales

    def check_room(self, arch: LlamaArch, batch: int, new_tokens: int) -> None:
        """Raise InputError for another model or batch, CacheOverflowError for too many tokens."""
        layers, (rows, kv_heads, _, head_dim) = len(self.keys), self.keys[0].shape
        if (layers, kv_heads, head_dim) != (arch.n_layers, arch.n_kv_heads, arch.head_dim):
            raise InputError(
                "a KV cache must have the model's layers, KV heads and head dim "
                f"{arch.n_layers}, {arch.n_kv_heads}, {arch.head_dim}; got {layers}, {kv_heads}, {head_dim}"
            )
        if self._windows != (arch.window, arch.full_layers):
            raise InputError(
                f"a KV cache must have the model's window and layers without it {(arch.window, arch.full_layers)}; "
                f"got {self._windows}"
            )
        if batch != rows:
            raise InputError(f"tokens must have the batch of the KV cache, {rows}; got {batch}")
        if self._length + new_tokens > self.max_tokens:
            raise CacheOverflowError(
                f"tokens must fit in the KV cache of {self.max_tokens}; it holds {self._length} and "
                f"{new_tokens} more came; make the cache longer"
            )
        if not self.holds(self._length):
            raise InputError("a pass that failed has overwritten what a window of this KV cache held; rewind it to 0")
        self._reached = max(self._reached, self._length + new_tokens)

    def at(self, layer: int) -> StaticLayerCache:
        """One layer's part; raises InputError for a layer that this cache does not have."""
        layers = len(self.keys)
        if not 0 <= layer < layers:
            raise InputError(f"a layer of this KV cache must be from 0 to {layers - 1}; got {layer}")
        scales = (self.key_scales[layer], self.value_scales[layer]) if self.key_scales else (None, None)
        keys, values = self.keys[layer], self.values[layer]
        kind = SlidingLayerCache if keys.shape[2] < self.max_tokens else StaticLayerCache
        return kind(keys, values, *scales, length=self._length)

    def holds(self, length: int) -> bool:
        """Whether a cache of `length` tokens can be continued: a full window has dropped tokens outside of it."""
        return not length or self._ring is None or self._reached <= max(length + 1, self._ring)

    def advance(self, new_tokens: int) -> None:
        """Count `new_tokens` as filled: every layer has appended them."""
        if not 0 <= new_tokens <= self.max_tokens - self._length:
            raise CacheOverflowError(
                f"a KV cache of {self.max_tokens} tokens holding {self._length} must not advance by {new_tokens}"
            )
        self._length += new_tokens
        self._reached = max(self._reached, self._length)

    def rewind(self, length: int = 0, *, lossy: bool = False) -> None:
        """Forget all tokens from `length` on.

        Raises InputError unless it is 0 to the present length, and where a window has let go of tokens that it held
        then; with `lossy`, for measuring, later ones stand in for those.
        """
        if not 0 <= length <= self._length:
            raise InputError(f"a KV cache must be rewound to 0 .. {self._length} tokens; got {length}")
        if not lossy and not self.holds(length):
            raise InputError(
                f"a KV cache with a window of {self._ring} tokens must be rewound to 0 or by one token; "
                f"it reached {self._reached}, got {length}"
            )
        self._length = length
        if lossy or not length:
            self._reached = length
