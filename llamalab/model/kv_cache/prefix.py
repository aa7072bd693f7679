"""Reuse of a prefix: common tokens of several texts are processed once, and each continues from a copy of the cache."""

from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.model.kv_cache.static import StaticKVCache


def forked(cache: StaticKVCache, arch: LlamaArch, max_tokens: int) -> StaticKVCache:
    """A new cache with the tokens of another one, and room for `max_tokens` in all.

    `arch` is what the cache was made for (`Transformer.rank_arch`). Raises InputError for less room than is filled, and
    for a full sliding window that would get another length.

    >>> from llamalab.presets import PRESETS
    >>> arch = PRESETS["stories260k"].arch
    >>> prefix = StaticKVCache(arch, batch=1, max_tokens=4, dtype="fp32")
    >>> prefix.advance(3)
    >>> forked(prefix, arch, 10).length
    3
    """
    if max_tokens < cache.length:
        raise InputError(
            f"a forked KV cache must have room for the {cache.length} tokens it begins with; got {max_tokens}"
        )
    device = cache.keys[0].device
    made = StaticKVCache(arch, batch=cache.batch, max_tokens=max_tokens, dtype=cache.dtype, device=device)
    for olds, news in zip(cache.stores, made.stores, strict=True):
        for old, new in zip(olds, news, strict=True):
            _copy(old, new, cache.length)
    made.advance(cache.length)
    return made


def _copy(old: Tensor, new: Tensor, filled: int) -> None:
    """Copy the filled part; all of a full window, which must then be as long."""
    stop = min(filled, old.shape[2])
    if filled > stop and old.shape[2] != new.shape[2]:
        raise InputError(
            f"a KV cache whose window of {old.shape[2]} tokens has turned must be forked with that window; "
            f"got {new.shape[2]} tokens"
        )
    new[:, :, :stop].copy_(old[:, :, :stop])
