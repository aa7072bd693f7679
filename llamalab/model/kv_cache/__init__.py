"""KV caches, one file a kind; the caller owns a cache and the model writes to it.

Belongs here: `static` (a fixed number of tokens, the default; int8 too), `dynamic` (grows), `ragged` (one length a
row), `prefix` (copies that go on from one text), `window` (a masked window for graphs). Every kind knows its length,
gives views of what is filled, and raises CacheOverflowError past its end.
Does not belong here: attention, sampling, sizes by formula (analytic.kv_cache).
"""
