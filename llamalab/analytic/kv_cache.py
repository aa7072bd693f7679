"""The size of the KV cache: 2 (K and V) x layers x KV heads x head dim x bytes, per token.

Convention: bytes are integers; the cache holds rotated keys and values of every token in context.
"""

from typing import NamedTuple

from llamalab.arch import LlamaArch, attention_kind, valid_kv_heads
from llamalab.checks import whole
from llamalab.units import check_plain, storage_bytes


class Variant(NamedTuple):
    """The cache of the same model with another number of KV heads."""

    attention: str
    n_kv_heads: int
    kv_bytes: int


def kv_bytes_per_token(arch: LlamaArch, dtype: str = "bf16") -> int:
    """Bytes that one token occupies in the cache, all layers.

    >>> from llamalab.presets import PRESETS
    >>> kv_bytes_per_token(PRESETS["7b"].arch)
    524288
    """
    check_plain(dtype)
    return storage_bytes(2 * arch.n_layers * arch.kv_dim, dtype)


def kv_bytes(arch: LlamaArch, *, seq: int, batch: int = 1, dtype: str = "bf16") -> int:
    """Bytes of the cache of `batch` sequences of `seq` tokens.

    >>> from llamalab.presets import PRESETS
    >>> kv_bytes(PRESETS["7b"].arch, seq=4096, batch=16)
    34359738368
    """
    return kv_bytes_per_token(arch, dtype) * whole(seq, "seq", least=0) * whole(batch, "batch", least=0)


def kv_variants(arch: LlamaArch, *, seq: int, batch: int = 1, dtype: str = "bf16") -> list[Variant]:
    """The cache under MHA, every valid GQA and MQA, largest first."""
    return [
        Variant(
            attention_kind(arch.n_heads, heads),
            heads,
            kv_bytes(arch.replace(n_kv_heads=heads), seq=seq, batch=batch, dtype=dtype),
        )
        for heads in valid_kv_heads(arch.n_heads)
    ]
