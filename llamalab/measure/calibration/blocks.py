"""The blocks that a machine is calibrated on, and the other ones that the result is checked on.

Small blocks at awkward token counts are fitted, blocks of 7b and 13b at others are checked: nothing that is checked
was fitted. A GPU needs more tokens to be full, and its peak must be among what is fitted.
"""

from typing import NamedTuple

import torch

from llamalab.arch import LlamaArch
from llamalab.measure.device.machine import device_of
from llamalab.presets import PRESETS


class Shape(NamedTuple):
    """A pass: `new` tokens of each of `batch` sequences, onto `past` that the cache holds."""

    batch: int
    new: int
    past: int = 0

    @property
    def phase(self) -> str:
        """Prefill or decode."""
        return "decode" if self.new == 1 else "prefill"


class Block(NamedTuple):
    """One block of a model with its embedding and head, and the passes it is run with."""

    name: str
    arch: LlamaArch
    shapes: tuple[Shape, ...]


FITTED = (
    Block(
        "512 wide, GQA", LlamaArch(512, 1, 8, 4, 1376, 8192),
        (Shape(1, 24), Shape(1, 104), Shape(1, 392), Shape(1, 1, 40), Shape(1, 1, 300), Shape(3, 1, 130)),
    ),
    Block(
        "2048 wide, MHA", LlamaArch(2048, 1, 16, 16, 5504, 8192),
        (Shape(1, 24), Shape(1, 56), Shape(1, 104), Shape(1, 200), Shape(1, 392),
         Shape(1, 1, 130), Shape(1, 1, 900), Shape(3, 1, 250), Shape(7, 1, 600), Shape(12, 1, 1500)),
    ),
    Block(
        "3072 wide, GQA", LlamaArch(3072, 1, 24, 8, 8192, 8192),
        (Shape(1, 37), Shape(1, 80), Shape(1, 144), Shape(1, 288),
         Shape(1, 1, 400), Shape(1, 1, 2500), Shape(2, 1, 90), Shape(5, 1, 1000), Shape(9, 1, 350)),
    ),
)  # fmt: skip
FITTED_ON_ACCELERATOR = (
    Block(
        "2048 wide, MHA",
        LlamaArch(2048, 1, 16, 16, 5504, 8192),
        (
            Shape(1, 104),
            Shape(1, 392),
            Shape(1, 1000),
            Shape(1, 3000),
            Shape(4, 700),
            Shape(1, 1, 130),
            Shape(1, 1, 900),
            Shape(1, 1, 3900),
            Shape(7, 1, 600),
            Shape(30, 1, 1500),
        ),
    ),
    Block(
        "3072 wide, GQA",
        LlamaArch(3072, 1, 24, 8, 8192, 8192),
        (
            Shape(1, 200),
            Shape(1, 700),
            Shape(1, 2500),
            Shape(2, 1300),
            Shape(1, 1, 400),
            Shape(1, 1, 2500),
            Shape(15, 1, 1000),
            Shape(60, 1, 350),
        ),
    ),
    Block(
        "6144 wide, GQA",
        LlamaArch(6144, 1, 48, 8, 16384, 8192),
        (Shape(1, 500), Shape(1, 1900), Shape(3, 1100), Shape(1, 1, 700), Shape(4, 1, 2000)),
    ),
)
CHECKED = (
    Block(
        "7b", PRESETS["7b"].arch,
        (Shape(1, 128), Shape(1, 320), Shape(2, 96), Shape(1, 1, 512), Shape(4, 1, 700), Shape(8, 1, 256)),
    ),
    Block("13b", PRESETS["13b"].arch, (Shape(1, 160), Shape(1, 1, 1024), Shape(6, 1, 320))),
)  # fmt: skip
CHECKED_ON_ACCELERATOR = (
    Block(
        "7b", PRESETS["7b"].arch,
        (Shape(1, 320), Shape(1, 2048), Shape(4, 512), Shape(1, 1, 512), Shape(8, 1, 2048), Shape(32, 1, 1024)),
    ),
    Block("13b", PRESETS["13b"].arch, (Shape(1, 1500), Shape(1, 1, 1024), Shape(16, 1, 3000))),
)  # fmt: skip


class Blocks(NamedTuple):
    """What is fitted and what is checked."""

    fit: tuple[Block, ...]
    check: tuple[Block, ...]


BLOCKS = {"host": Blocks(FITTED, CHECKED), "accelerator": Blocks(FITTED_ON_ACCELERATOR, CHECKED_ON_ACCELERATOR)}


def blocks_for(place: torch.device) -> Blocks:
    """Those of the role that a device has.

    >>> [block.name for block in blocks_for(torch.device("cpu")).check]
    ['7b', '13b']
    """
    return BLOCKS[device_of(place).role]
