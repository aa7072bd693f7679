"""A cache that grows by concatenation: every append copies all earlier keys and values.

    bytes moved by one append of T tokens to S: read S, write S + T; a static cache writes T

It has the methods of StaticKVCache and no fixed size. It exists for comparison (experiments/kv_cache_onoff.py): it is
what `torch.cat` in a model's forward does.

B batch, K KV heads, S keys in view, T new tokens, E head dim.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.model.dtypes import activation_dtype, torch_device


class DynamicKVCache:
    """Keys and values of `batch` sequences of any length, one pair of tensors per layer.

    >>> from llamalab.presets import PRESETS
    >>> DynamicKVCache(PRESETS["7b"].arch, batch=16, dtype="bf16").nbytes
    0
    """

    def __init__(self, arch: LlamaArch, *, batch: int, dtype: str, device: str | torch.device | None = None) -> None:
        if type(batch) is not int or batch < 1:
            raise InputError(f"batch of a KV cache must be a whole number of at least 1; got {batch!r}")
        place = torch_device("cpu" if device is None else device)
        nothing_BK0E = torch.zeros(
            batch, arch.n_kv_heads, 0, arch.head_dim, dtype=activation_dtype(dtype), device=place
        )
        self.keys, self.values = [nothing_BK0E] * arch.n_layers, [nothing_BK0E] * arch.n_layers
        self.batch, self.dtype = batch, dtype
        self._length = 0

    @property
    def length(self) -> int:
        """Tokens that are filled: the position of the next one."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def check_room(self, arch: LlamaArch, batch: int, new_tokens: int) -> None:
        """Raise InputError for another model or batch; there is always room."""
        rows, kv_heads, _, head_dim = self.keys[0].shape
        expected = (batch, arch.n_layers, arch.n_kv_heads, arch.head_dim)
        own = (rows, len(self.keys), kv_heads, head_dim)
        if expected != own:
            raise InputError(
                "a KV cache must have the tokens' batch and the model's layers, KV heads and head dim "
                f"{expected}; got {own}"
            )

    def at(self, layer: int) -> "DynamicLayerCache":
        """One layer's part."""
        return DynamicLayerCache(self, layer)

    def advance(self, new_tokens: int) -> None:
        """Count `new_tokens` as filled: every layer has appended them."""
        self._length += new_tokens

    def rewind(self, length: int = 0) -> None:
        """Forget all tokens from `length` on; raises InputError unless it is 0 to the present length."""
        if not 0 <= length <= self._length:
            raise InputError(f"a KV cache must be rewound to 0 .. {self._length} tokens; got {length}")
        # Truncated, so that the next append copies as much as in a first run.
        self.keys = [k_BKSE[:, :, :length].contiguous() for k_BKSE in self.keys]
        self.values = [v_BKSE[:, :, :length].contiguous() for v_BKSE in self.values]
        self._length = length


class DynamicLayerCache(NamedTuple):
    """One layer's place in the lists of a DynamicKVCache."""

    cache: DynamicKVCache
    layer: int

    def append(self, k_BKTE: Tensor, v_BKTE: Tensor, *, ordered: bool = False) -> tuple[Tensor, Tensor]:
        """The layer's keys and values with the new ones behind, in new tensors; `length` stays until `advance`."""
        keys, values, layer = self.cache.keys, self.cache.values, self.layer
        # Up to the length: a pass that failed half way may have left more.
        filled = slice(0, self.cache.length)
        keys[layer] = torch.cat((keys[layer][:, :, filled], k_BKTE.detach()), dim=2)
        values[layer] = torch.cat((values[layer][:, :, filled], v_BKTE.detach()), dim=2)
        return keys[layer], values[layer]
