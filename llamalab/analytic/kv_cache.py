"""The size of the KV cache: 2 (K and V) x layers x KV heads x head dim x bytes, per token.

Convention: bytes are integers; the cache holds rotated keys and values of every token in context, and in layers with
a sliding window those of the last so many.
"""

from collections.abc import Iterable

from llamalab.arch import LlamaArch, attention_kind
from llamalab.arch.fields import valid_kv_heads
from llamalab.checks import whole
from llamalab.startup.hints import NamedTuple
from llamalab.units import check_unscaled, storage_bytes


class Variant(NamedTuple):
    """The cache of the same model with another number of KV heads."""

    attention: str
    n_kv_heads: int
    kv_bytes: int


def kv_bytes_per_token(arch: LlamaArch, dtype: str = "bf16") -> int:
    """Bytes that one token occupies in the cache, all layers, as long as no window is full.

    >>> from llamalab.presets import PRESETS
    >>> kv_bytes_per_token(PRESETS["7b"].arch)
    524288
    """
    check_unscaled(dtype)
    return storage_bytes(2 * arch.n_layers * arch.kv_dim, dtype)


def kv_bytes(arch: LlamaArch, *, seq: int, batch: int = 1, dtype: str = "bf16") -> int:
    """Bytes of the cache of `batch` sequences of `seq` tokens.

    >>> from llamalab.presets import PRESETS
    >>> kv_bytes(PRESETS["7b"].arch, seq=4096, batch=16)
    34359738368
    """
    return _kv_bytes(arch, arch.kv_dim, seq, batch, dtype)


def _kv_bytes(arch: LlamaArch, kv_dim: int, seq: int, batch: int, dtype: str) -> int:
    seq, batch = whole(seq, "seq", least=0), whole(batch, "batch", least=0)
    return layers_kv_bytes(arch.windows, kv_dim, seq=seq, dtype=dtype) * batch


def layers_kv_bytes(windows: Iterable[tuple[int | None, int]], kv_dim: int, *, seq: int, dtype: str) -> int:
    """Bytes of the cache of one sequence in layers of these windows, as LlamaArch.windows counts them.

    >>> layers_kv_bytes([(None, 1), (1024, 3)], 128, seq=4096, dtype="bf16")
    3670016
    """
    return sum(
        storage_bytes(2 * layers * kv_dim, dtype) * (seq if window is None else min(seq, window))
        for window, layers in windows
    )


def kv_variants(arch: LlamaArch, *, seq: int, batch: int = 1, dtype: str = "bf16") -> list[Variant]:
    """The cache under MHA, every valid GQA and MQA, largest first."""
    return [
        Variant(
            attention_kind(arch.n_heads, heads),
            heads,
            _kv_bytes(arch, heads * arch.head_dim, seq, batch, dtype),
        )
        for heads in valid_kv_heads(arch.n_heads)
    ]
