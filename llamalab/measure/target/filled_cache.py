"""A KV cache filled with random values instead of a prefill; values do not change the work.

The cache must be written, since unwritten pages all map to one page of zeros, which every CPU cache holds.
"""

import torch

from llamalab.model import StaticKVCache


def fill_to(cache: StaticKVCache, tokens: int) -> None:
    """Fill a cache to at least so many tokens; a longer cache stays as it is."""
    missing = tokens - cache.length
    if missing <= 0:
        return
    for store in (*cache.keys, *cache.values):
        store.normal_(generator=torch.Generator(store.device).manual_seed(0))
    cache.advance(missing)
