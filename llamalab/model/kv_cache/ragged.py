"""Sequences of different lengths in one pass: each row has its own cache.

Weights are read once for all rows. Positions and attention are each row's own: it sees its own keys and nothing else.
Rows may join or leave between passes. Rows that are neighbours in one buffer (`StaticKVCache.row`) attend in one call,
the shorter ones with a mask over what lies after them; others, and those of several new tokens or of a full window,
one after the other.

B batch, S keys in view.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.model.kv_cache.static import StaticKVCache
from llamalab.model.layer_cache import RowsLayerCache, SlidingLayerCache, StaticLayerCache


class RaggedLayerCache(NamedTuple):
    """The caches of one layer, row by row; and all of them at once, with the keys_BS that each must not see."""

    rows: tuple[StaticLayerCache, ...]
    at_once: RowsLayerCache | None = None
    hidden_BS: Tensor | None = None


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
        self._span = _span(self.rows)
        self._seen: tuple[tuple[int, ...], Tensor, Tensor] | None = None

    @property
    def length(self) -> tuple[int, ...]:
        """Tokens that are filled, row by row."""
        return tuple(row.length for row in self.rows)

    def check_room(self, arch: LlamaArch, batch: int, new_tokens: int) -> None:
        """Raise InputError for another batch; for each row the errors of StaticKVCache.check_room."""
        if batch != len(self.rows):
            raise InputError(f"tokens must have a row for each of the {len(self.rows)} caches; got {batch}")
        for row in self.rows:
            row.check_room(arch, 1, new_tokens)

    def at(self, layer: int) -> RaggedLayerCache:
        """One layer's part of every row."""
        rows = tuple(row.at(layer) for row in self.rows)
        if self._span is None or isinstance(rows[0], SlidingLayerCache):
            return RaggedLayerCache(rows)
        home, span = self._span
        whole = home.at(layer)
        scales = (None if one is None else one[span] for one in (whole.key_scales, whole.value_scales))
        stores = StaticLayerCache(whole.keys[span], whole.values[span], *scales, length=0)
        place_B, hidden_BS = self._places(whole.keys.device)
        return RaggedLayerCache(rows, RowsLayerCache(stores, place_B, max(self.length)), hidden_BS)

    def advance(self, new_tokens: int) -> None:
        """Count `new_tokens` as filled in every row."""
        for row in self.rows:
            row.advance(new_tokens)

    def _places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where each row is filled to, and which keys it must not see; the same for all layers of a pass."""
        if self._seen is None or self._seen[0] != self.length:
            place_B = torch.tensor(self.length, device=device)
            hidden_BS = torch.arange(max(self.length) + 1, device=device) > place_B[:, None]
            self._seen = (self.length, place_B, hidden_BS)
        return self._seen[1:]


def _span(rows: Sequence[StaticKVCache]) -> tuple[StaticKVCache, slice] | None:
    """The cache in which all rows are adjacent and in order, and their part of it; None where they are not."""
    homes = [row.home for row in rows if row.home is not None]
    if len(homes) < max(2, len(rows)) or any(home is not homes[0][0] for home, _ in homes):
        return None
    first = homes[0][1]
    if [place for _, place in homes] != list(range(first, first + len(homes))):
        return None
    return homes[0][0], slice(first, first + len(homes))
