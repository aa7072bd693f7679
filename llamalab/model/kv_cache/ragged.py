"""Sequences of different lengths in one pass: each row brings the cache that it filled alone.

Weights are read once for all rows. Positions and attention are each row's own: it sees its own keys
and nothing else, so there is no padding, no mask, and a row computes what it would compute alone.
Rows may join or leave between passes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.model.kv_cache.static import StaticKVCache
from llamalab.model.layer_cache import StaticLayerCache


class RaggedKVCache:
    """The caches of several sequences, each of batch 1, as the cache of one batch.

    Raises InputError where there are none, one is there twice, or one holds more than one sequence.
    """

    def __init__(self, rows: Sequence[StaticKVCache]) -> None:
        if not rows or any(row.batch != 1 for row in rows) or len({id(row) for row in rows}) != len(rows):
            raise InputError(
                "the rows of a ragged KV cache must be at least one cache, all distinct and of batch 1; "
                f"got batches {[row.batch for row in rows]}"
            )
        self.rows = tuple(rows)

    @property
    def length(self) -> tuple[int, ...]:
        """Tokens that are filled, row by row."""
        return tuple(row.length for row in self.rows)

    def check_room(self, arch: LlamaArch, batch: int, new_tokens: int) -> None:
        """Raise InputError for another batch; for each row what StaticKVCache.check_room raises."""
        if batch != len(self.rows):
            raise InputError(f"tokens must have a row for each of the {len(self.rows)} caches; got {batch}")
        for row in self.rows:
            row.check_room(arch, 1, new_tokens)

    def at(self, layer: int) -> "RaggedLayerCache":
        """One layer's part of every row."""
        return RaggedLayerCache(tuple(row.at(layer) for row in self.rows))

    def advance(self, new_tokens: int) -> None:
        """Count `new_tokens` as filled in every row."""
        for row in self.rows:
            row.advance(new_tokens)


class RaggedLayerCache(NamedTuple):
    """The caches of one layer, row by row."""

    rows: tuple[StaticLayerCache, ...]
