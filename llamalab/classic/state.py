"""Keys and values of a decoder: its own, which grow with the text, and those of the encoder, computed once.

B batch (times beams), H heads, S keys, E head dim.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.classic.shape import ClassicArch


class KeysValues(NamedTuple):
    """k_BHSE and v_BHSE of one attention."""

    k_BHSE: Tensor
    v_BHSE: Tensor

    def longer(self, new: "KeysValues") -> "KeysValues":
        """These and the new ones behind them."""
        return KeysValues(*(torch.cat(pair, dim=2) for pair in zip(self, new, strict=True)))

    def rows(self, row_N: Tensor) -> "KeysValues":
        """Those of some rows of the batch, in that order."""
        return KeysValues(*(one.index_select(0, row_N) for one in self))

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return sum(one.numel() * one.element_size() for one in self)


class LayerState:
    """Keys and values of one decoder layer; None until its first pass."""

    def __init__(self) -> None:
        self.own: KeysValues | None = None
        self.cross: KeysValues | None = None

    def append(self, new: KeysValues) -> KeysValues:
        """All keys and values of the layer's own attention, the new ones included."""
        self.own = new if self.own is None else self.own.longer(new)
        return self.own

    def pick(self, row_N: Tensor) -> None:
        """Keep some rows of the batch: the beams that go on."""
        self.own = None if self.own is None else self.own.rows(row_N)
        self.cross = None if self.cross is None else self.cross.rows(row_N)


class DecoderState:
    """The layers' keys and values, and how many tokens they are of."""

    def __init__(self, arch: ClassicArch) -> None:
        self.layers = [LayerState() for _ in range(arch.n_decoder_layers)]

    @property
    def length(self) -> int:
        """Target tokens that are kept."""
        own = self.layers[0].own
        return 0 if own is None else own.k_BHSE.shape[2]

    @property
    def own_bytes(self) -> int:
        """Bytes of the keys and values of target tokens."""
        return sum(layer.own.nbytes for layer in self.layers if layer.own is not None)

    @property
    def cross_bytes(self) -> int:
        """Bytes of the keys and values of source tokens."""
        return sum(layer.cross.nbytes for layer in self.layers if layer.cross is not None)

    def pick(self, row_N: Tensor) -> None:
        """Keep some rows of the batch, in that order."""
        for layer in self.layers:
            layer.pick(row_N)
