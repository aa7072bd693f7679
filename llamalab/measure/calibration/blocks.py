"""The blocks that constants are fitted on, and the different ones that they are checked on.

Small blocks at odd token counts are fitted, blocks of 7b and 13b at others are checked: no pass is in both sets. An
accelerator needs more tokens to be fully used, and the fitted passes must include some that reach its peak.
"""

from typing import NamedTuple

import torch

from llamalab.arch import LlamaArch
from llamalab.measure.device.machine import device_of
from llamalab.presets import PRESETS


class BlockPass(NamedTuple):
    """A pass: `new` tokens of each of `batch` sequences after `past` in the cache."""

    batch: int
    new: int
    past: int = 0

    @property
    def phase(self) -> str:
        """Prefill or decode."""
        return "decode" if self.new == 1 else "prefill"


class Block(NamedTuple):
    """One block of a model with its embedding and head, and the passes it is run with.

    `attention` is the backend's name, None for the fastest of the device.
    """

    name: str
    arch: LlamaArch
    shapes: tuple[BlockPass, ...]
    attention: str | None = None


_VOCAB_SIZE = 8192  # small: embedding and head are to be no larger than a block


def _block(name: str, dim: int, heads: tuple[int, int], ffn_dim: int, *passes: tuple[int, ...]) -> Block:
    """A block of no preset: numbers of query heads and KV heads, and passes as (batch, new) or (batch, new, past)."""
    arch = LlamaArch(
        dim=dim, n_layers=1, n_heads=heads[0], n_kv_heads=heads[1], ffn_dim=ffn_dim, vocab_size=_VOCAB_SIZE
    )
    return Block(name, arch, tuple(BlockPass(*sizes) for sizes in passes))


def _preset(name: str, *passes: tuple[int, ...]) -> Block:
    """A block of a preset with passes in the same form."""
    return Block(name, PRESETS[name].arch, tuple(BlockPass(*sizes) for sizes in passes))


FITTED = (
    _block(
        "512 wide, GQA",
        512,
        (8, 4),
        1376,
        (1, 24),
        (1, 104),
        (1, 392),
        (1, 1100),
        (1, 1, 40),
        (1, 1, 300),
        (3, 1, 130),
    ),
    _block(
        "2048 wide, MHA",
        2048,
        (16, 16),
        5504,
        (1, 24),
        (1, 56),
        (1, 104),
        (1, 200),
        (1, 392),
        (1, 1, 130),
        (1, 1, 900),
        (3, 1, 250),
        (7, 1, 600),
        (12, 1, 1500),
    ),
    _block(
        "3072 wide, GQA",
        3072,
        (24, 8),
        8192,
        (1, 37),
        (1, 80),
        (1, 144),
        (1, 288),
        (1, 1, 400),
        (1, 1, 2500),
        (2, 1, 90),
        (5, 1, 1000),
        (9, 1, 350),
    ),
)
# Of these passes only attention differs from others: score matrices that fit into a cache, and ones that do not.
NAIVE = _block("512 wide, naive", 512, (8, 8), 128, (1, 104), (1, 392), (1, 1100), (1, 1, 300), (1, 1, 1500))._replace(
    attention="naive"
)
NAIVE_ON_ACCELERATOR = _block(
    "2048 wide, naive", 2048, (16, 16), 512, (1, 392), (1, 1000), (1, 3000), (1, 1, 900), (1, 1, 3900)
)._replace(attention="naive")
FITTED_ON_ACCELERATOR = (
    _block(
        "2048 wide, MHA",
        2048,
        (16, 16),
        5504,
        (1, 104),
        (1, 392),
        (1, 1000),
        (1, 3000),
        (4, 700),
        (1, 1, 130),
        (1, 1, 900),
        (1, 1, 3900),
        (7, 1, 600),
        (30, 1, 1500),
    ),
    _block(
        "3072 wide, GQA",
        3072,
        (24, 8),
        8192,
        (1, 200),
        (1, 700),
        (1, 2500),
        (2, 1300),
        (1, 1, 400),
        (1, 1, 2500),
        (15, 1, 1000),
        (60, 1, 350),
    ),
    _block("6144 wide, GQA", 6144, (48, 8), 16384, (1, 500), (1, 1900), (3, 1100), (1, 1, 700), (4, 1, 2000)),
)
CHECKED = (
    _preset("7b", (1, 128), (1, 320), (2, 96), (1, 1, 512), (4, 1, 700), (8, 1, 256)),
    _preset("13b", (1, 160), (1, 1, 1024), (6, 1, 320)),
)
CHECKED_ON_ACCELERATOR = (
    _preset("7b", (1, 320), (1, 2048), (4, 512), (1, 1, 512), (8, 1, 2048), (32, 1, 1024)),
    _preset("13b", (1, 1500), (1, 1, 1024), (16, 1, 3000)),
)


QUICK = _block(
    "3072 wide, GQA",
    3072,
    (24, 8),
    8192,
    (1, 24),
    (1, 104),
    (1, 392),
    (1, 1, 130),
    (1, 1, 900),
    (3, 1, 250),
    (6, 1, 1000),
)
# 7B's layers with a small vocabulary, since its own takes longer to build than a block.
QUICK_CHECK = Block(
    "7b, 8192 words", PRESETS["7b"].arch.replace(vocab_size=_VOCAB_SIZE), (BlockPass(1, 32), BlockPass(1, 1, 512))
)
QUICK_ON_ACCELERATOR = _block(
    "6144 wide, GQA",
    6144,
    (48, 8),
    16384,
    (1, 104),
    (1, 500),
    (1, 1900),
    (3, 1100),
    (1, 1, 700),
    (1, 1, 3900),
    (4, 1, 2000),
    (30, 1, 350),
)


class Blocks(NamedTuple):
    """The blocks to fit, the blocks to check, and the one with naive attention, which is fitted too."""

    fit: tuple[Block, ...]
    check: tuple[Block, ...]
    naive: Block


BLOCKS_BY_ROLE = {
    "host": Blocks(FITTED, CHECKED, NAIVE),
    "accelerator": Blocks(FITTED_ON_ACCELERATOR, CHECKED_ON_ACCELERATOR, NAIVE_ON_ACCELERATOR),
}


QUICK_BY_ROLE = {
    "host": Blocks((QUICK,), (QUICK_CHECK,), NAIVE),
    "accelerator": Blocks(
        (QUICK_ON_ACCELERATOR,), (_preset("7b", (1, 320), (1, 1, 512), (8, 1, 2048)),), NAIVE_ON_ACCELERATOR
    ),
}


def blocks_for(place: torch.device, *, quick: bool = False) -> Blocks:
    """The blocks for a device, by its role; with `quick` one to fit and one to check.

    >>> [block.name for block in blocks_for(torch.device("cpu")).check]
    ['7b', '13b']
    """
    return (QUICK_BY_ROLE if quick else BLOCKS_BY_ROLE)[device_of(place).role]
