"""Taps on a model spread over ranks: inside attention and feed-forward a tap sees the rank's own heads and width.

`WholeView` around a tap gathers whole tensors, so that every rank must run the pass with such a view.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from llamalab.errors import InputError
from llamalab.model import Transformer
from llamalab.model.tap import Tap, wants

LOCAL, _WHOLE = "local", "whole"
_KV_HEADS, _WIDTH = ("k", "v", "k_norm", "rot_k", "k_cache", "v_cache"), ("gate", "up", "act")


def view_of(name: str) -> str:
    """The extent of a tensor at a point for a tap without a WholeView: `local` where ranks hold parts, else `whole`.

    >>> view_of("layers.0.attention.q"), view_of("layers.0.resid_mid"), view_of("layers.1.feed_forward.act")
    ('local', 'whole', 'local')
    """
    return _WHOLE if _axis(name) is None else LOCAL


class WholeView:
    """A tap that gathers whole tensors for another one, and returns each rank its part of the result.

    Raises InputError for a model that is not spread over ranks.
    """

    def __init__(self, tap: Tap, model: Transformer) -> None:
        if model.spread is None and model.link is None:
            raise InputError("a WholeView must be of a model on several ranks; this one is on one; use the tap itself")
        self.tap, self._group = tap, model.link.group if model.link else model.spread.mesh.get_group()  # type: ignore[union-attr]
        self._rank, self._ranks = dist.get_rank(self._group), dist.get_world_size(self._group)
        self._copies = max(1, self._ranks // model.arch.n_kv_heads)
        self.edits = getattr(tap, "edits", True)

    def wants(self, name: str) -> bool:
        """Whether the inner tap wants the tensor of that name."""
        return wants(self.tap, name)

    def __call__(self, name: str, tensor: Tensor, /) -> Tensor:
        axis = _axis(name)
        if axis is None or not self.wants(name):
            return self.tap(name, tensor) if axis is None else tensor
        own = tensor.contiguous()
        parts: list[Any] = [torch.empty_like(own) for _ in range(self._ranks)]
        dist.all_gather(parts, own, group=self._group)
        copies = self._copies if name.rpartition(".")[2] in _KV_HEADS else 1  # ranks that hold the same head
        made = self.tap(name, torch.cat(parts[::copies], axis))
        return made.chunk(self._ranks // copies, axis)[self._rank // copies] if self.edits else tensor


def _axis(name: str) -> int | None:
    """The axis along which ranks hold parts of a point's tensor: heads, or the width of the feed-forward."""
    home, _, point = name.rpartition(".")
    if home.endswith(".feed_forward") and point in _WIDTH:
        return -1
    return 1 if home.endswith(".attention") else None
