"""Keys and values of past tokens in static buffers, owned by the caller.

    keys, values: a tensor (B, K, S_max, E) per layer; bytes = 2 * L * B * K * S_max * E * bytes per element

Keys are stored rotated. What is handed out are views of exactly the filled length, so that the bytes
an attention step reads are the analytic ones. Storage narrower than the activations is decoded on
read: int8 is symmetric with one fp32 scale (largest magnitude / 127) per token and KV head, fp8 is
e4m3, cut at its largest value.

L layers, B batch, K KV heads, S keys in view, T new tokens, E head dim.
"""

from typing import Protocol

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.errors import CacheOverflowError, DoesNotFitError, InputError
from llamalab.model.dtypes import torch_device, torch_dtype

_FP8_MAX = torch.finfo(torch.float8_e4m3fn).max


class LayerCache(Protocol):
    """What the attention of one layer needs of a cache: see StaticLayerCache."""

    def append(self, k_BKTE: Tensor, v_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Store the layer's new keys and values; return all that are in view."""


class KVCache(Protocol):
    """What a model needs of a cache: see StaticKVCache."""

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
        per_head = (batch, arch.n_kv_heads, max_tokens)

        def of_each_layer(*shape: int, kind: torch.dtype) -> list[Tensor]:
            # Not one buffer for all: a compiled pass that writes to a part of a tensor may copy the rest.
            return [torch.zeros(shape, dtype=kind, device=place) for _ in range(arch.n_layers)]

        try:
            self.keys = of_each_layer(*per_head, arch.head_dim, kind=stored)
            self.values = of_each_layer(*per_head, arch.head_dim, kind=stored)
            scaled = dtype == "int8"
            self.key_scales = of_each_layer(*per_head, kind=torch.float32) if scaled else []
            self.value_scales = of_each_layer(*per_head, kind=torch.float32) if scaled else []
        except RuntimeError as error:
            raise DoesNotFitError(
                f"a KV cache of {batch} x {max_tokens} tokens in {dtype} must fit on {place}; it does not; "
                "take fewer tokens, a smaller batch or a narrower dtype"
            ) from error
        self.batch, self.max_tokens, self.dtype = batch, max_tokens, dtype
        self._length = 0

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

    def check_room(self, arch: LlamaArch, batch: int, new_tokens: int) -> None:
        """Raise InputError for another model or batch, CacheOverflowError for too many tokens."""
        layers, (rows, kv_heads, _, head_dim) = len(self.keys), self.keys[0].shape
        if (layers, kv_heads, head_dim) != (arch.n_layers, arch.n_kv_heads, arch.head_dim):
            raise InputError(
                "a KV cache must have the model's layers, KV heads and head dim "
                f"{arch.n_layers}, {arch.n_kv_heads}, {arch.head_dim}; got {layers}, {kv_heads}, {head_dim}"
            )
        if batch != rows:
            raise InputError(f"tokens must have the batch of the KV cache, {rows}; got {batch}")
        if self._length + new_tokens > self.max_tokens:
            raise CacheOverflowError(
                f"tokens must fit in the KV cache of {self.max_tokens}; it holds {self._length} and "
                f"{new_tokens} more came; make the cache longer"
            )

    def at(self, layer: int) -> "StaticLayerCache":
        """One layer's part; raises InputError for a layer that this cache does not have."""
        layers = len(self.keys)
        if not 0 <= layer < layers:
            raise InputError(f"a layer of this KV cache must be from 0 to {layers - 1}; got {layer}")
        scales = (self.key_scales[layer], self.value_scales[layer]) if self.key_scales else (None, None)
        return StaticLayerCache(self.keys[layer], self.values[layer], *scales, length=self._length)

    def advance(self, new_tokens: int) -> None:
        """Count `new_tokens` as filled: every layer has appended them."""
        if not 0 <= new_tokens <= self.max_tokens - self._length:
            raise CacheOverflowError(
                f"a KV cache of {self.max_tokens} tokens holding {self._length} must not advance by {new_tokens}"
            )
        self._length += new_tokens

    def rewind(self, length: int = 0) -> None:
        """Forget all tokens from `length` on; raises InputError unless it is 0 to the present length."""
        if not 0 <= length <= self._length:
            raise InputError(f"a KV cache must be rewound to 0 .. {self._length} tokens; got {length}")
        self._length = length


class StaticLayerCache:
    """The buffers of one layer as they are at the beginning of a pass: keys_BKSE, values_BKSE and their scales_BKS."""

    def __init__(
        self, keys: Tensor, values: Tensor, key_scales: Tensor | None, value_scales: Tensor | None, *, length: int
    ) -> None:
        self.keys, self.values, self.length = keys, values, length
        self.key_scales, self.value_scales = key_scales, value_scales

    def append(self, k_BKTE: Tensor, v_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values after `length`; return views_BKSE of all that is filled.

        The views have the dtype of what came; decoded copies where the storage is another. Raises InputError for a
        shape or device that is not this cache's and CacheOverflowError past the end, before anything is written.
        """
        batch, kv_heads, max_tokens, head_dim = self.keys.shape
        expected = (batch, kv_heads, k_BKTE.shape[2] if k_BKTE.dim() == 4 else -1, head_dim)
        if k_BKTE.shape != expected or v_BKTE.shape != expected:
            raise InputError(
                f"keys and values must be of shape ({batch}, {kv_heads}, new tokens, {head_dim}); "
                f"got {tuple(k_BKTE.shape)} and {tuple(v_BKTE.shape)}"
            )
        if k_BKTE.device != self.keys.device:
            raise InputError(f"keys must be on the device of the KV cache, {self.keys.device}; got {k_BKTE.device}")
        stop = self.length + k_BKTE.shape[2]
        if stop > max_tokens:
            raise CacheOverflowError(f"a KV cache of {max_tokens} tokens must not be written to {stop}")
        return (
            self._write_and_view(self.keys, self.key_scales, k_BKTE.detach(), stop),
            self._write_and_view(self.values, self.value_scales, v_BKTE.detach(), stop),
        )

    def _write_and_view(self, store: Tensor, scales: Tensor | None, x_BKTE: Tensor, stop: int) -> Tensor:
        new = slice(self.length, stop)
        if scales is not None:
            scale_BKT = x_BKTE.abs().amax(-1).float() / 127
            scales[:, :, new] = scale_BKT
            # A token of zeros has scale 0: it divides by 1 instead and stays 0.
            divisor_BKT1 = torch.where(scale_BKT == 0, 1.0, scale_BKT).unsqueeze(-1)
            store[:, :, new] = (x_BKTE.float() / divisor_BKT1).round().to(torch.int8)
            decoded_BKSE = store[:, :, :stop].float() * scales[:, :, :stop].unsqueeze(-1)
            return decoded_BKSE.to(x_BKTE.dtype)
        # Not every torch cuts on conversion: older ones turn what is too large into NaN.
        store[:, :, new] = x_BKTE.clamp(-_FP8_MAX, _FP8_MAX) if store.dtype == torch.float8_e4m3fn else x_BKTE
        return store[:, :, :stop].to(x_BKTE.dtype)
