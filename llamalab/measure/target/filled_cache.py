"""A KV cache that holds tokens which no pass has read: random values, which do not change the work.

It must be written, because pages that were never written all map to one page of zeros, which every cache holds.
"""

import torch

from llamalab.model import StaticKVCache


def fill_to(cache: StaticKVCache, tokens: int) -> None:
    """Have a cache hold at least so many tokens; those that it has stay where that is enough."""
    missing = tokens - cache.length
    if missing <= 0:
        return
    for store in (*cache.keys, *cache.values):
        store.normal_(generator=torch.Generator(store.device).manual_seed(0))
    cache.advance(missing)
