"""Copies of a block that a calibration runs in turn, so that the weights a pass reads come from memory, not a cache."""

from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

from llamalab.analytic.params import weight_bytes
from llamalab.measure.calibration.blocks import Block
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.shape_products import products_like
from llamalab.model import Transformer
from llamalab.model.compiled import compile

_WEIGHT = 0.02  # values of the size of a trained model's
_BEYOND = 2  # weights in turn, as a multiple of the cache, which does not evict strictly the oldest
_MOST_COPIES = 64  # a block this small would need too many copies to fill a cache


class Turns(NamedTuple):
    """The number of copies of a block run in turn, including the first, and whether a cache may hold all of them."""

    copies: int
    in_cache: bool


class CopyBudget:
    """The bytes that weights must exceed to come from memory, and the memory available for copies."""

    def __init__(self, cache_bytes: int, copies_bytes: int) -> None:
        self._trial_bytes, self._left_bytes = _BEYOND * cache_bytes, copies_bytes

    def copies(self, size_bytes: int) -> Turns:
        """The copies of a block of this size; one where memory is too small for the required number.

        >>> room = CopyBudget(cache_bytes=16, copies_bytes=40)
        >>> [tuple(room.copies(size)) for size in (12, 12, 50)]
        [(3, False), (1, True), (1, False)]
        """
        wanted = max(1, -(-self._trial_bytes // size_bytes))
        more_bytes = (wanted - 1) * size_bytes
        if wanted > _MOST_COPIES or more_bytes > self._left_bytes:
            return Turns(1, in_cache=True)
        self._left_bytes -= more_bytes
        return Turns(wanted, in_cache=False)


class Ring(NamedTuple):
    """Copies of one block in turn; `in_cache` where a cache may hold what they read."""

    turns: Iterator[Transformer]
    first: Transformer
    in_cache: bool


def block_bytes(block: Block, dtype: str) -> int:
    """Bytes of the weights of a block with embedding and head."""
    return weight_bytes(block.arch.replace(n_layers=1), dtype)


def ring_of(machine: Machine, block: Block, turns: Turns) -> Ring:
    """The copies of a block, built."""
    models = [_model(machine, block) for _ in range(turns.copies)]
    return Ring(cycle(models), models[0], turns.in_cache)


def _model(machine: Machine, block: Block) -> Transformer:
    model = Transformer(block.arch.replace(n_layers=1), dtype=machine.dtype, device="meta")
    model = model.to_empty(device=machine.device).eval()
    for weight in model.parameters():
        machine.fill(weight, _WEIGHT)
    return compile(
        model,
        scope="none",
        attention=block.attention,
        weight_dtype=machine.weight_dtype,
        kernel_rows=machine.kernel_rows,
        products=products_like(machine.device, machine.dtype, block.arch),
    )
