"""Which tensors and rows of a format hold each weight of an architecture, and the reordering in both directions.

A stored tensor is one weight, or several concatenated where a format fuses them (qkv_proj, gate_up_proj); rows of
rotated matrices may be in another order (see layout).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import Weights, model_shapes
from llamalab.checkpoints.layout import Layout, halves_to_pairs, is_rotated, pairs_to_halves


class StoredRows(NamedTuple):
    """The stored tensor of a weight, and its rows there."""

    tensor: str
    rows: slice


class Arrangement(NamedTuple):
    """A checkpoint's tensors: `shapes` by name, `members` (weights of each tensor), `places` (tensor of a weight)."""

    arch: LlamaArch
    layout: Layout
    shapes: dict[str, tuple[int, ...]]
    members: dict[str, tuple[str, ...]]
    places: dict[str, StoredRows]

    def as_ours(self, name: str, rows: Tensor) -> Tensor:
        """The stored rows of a weight, reordered to the model's order."""
        return halves_to_pairs(rows, self.arch) if self._turned_round(name) else rows

    def as_theirs(self, tensor: str, weights: Weights, *, dtype: torch.dtype | None) -> Tensor:
        """A whole tensor in the row order of the format."""
        kind = dtype or self.dtype_of(tensor, weights)
        parts = []
        for name in self.members[tensor]:
            part = weights.fetch(name, dtype=kind)
            parts.append(pairs_to_halves(part, self.arch) if self._turned_round(name) else part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _turned_round(self, name: str) -> bool:
        """Whether rotated rows of a weight are stored as two halves, unlike the model, which keeps pairs adjacent."""
        return self.layout.in_halves and not self.arch.pairs_on_disk and is_rotated(name)

    def dtype_of(self, tensor: str, weights: Weights) -> torch.dtype:
        """The dtype that holds every member of a tensor without loss."""
        first, *others = (weights.dtype_of(name) for name in self.members[tensor])
        for other in others:
            first = torch.promote_types(first, other)
        return first


def arranged(arch: LlamaArch, layout: Layout) -> Arrangement:
    """The tensors in which a format of this layout stores an architecture. Raises UnavailableError as model_shapes.

    >>> from llamalab.checkpoints.layout import HUGGING_FACE
    >>> found = arranged(LlamaArch(4, 1, 2, 1, 8, 8, fused_on_disk=True), HUGGING_FACE)
    >>> found.shapes["model.layers.0.self_attn.qkv_proj.weight"]
    (8, 4)
    >>> found.places["layers.0.attention.wk.weight"]
    StoredRows(tensor='model.layers.0.self_attn.qkv_proj.weight', rows=slice(4, 6, None))
    """
    fused = layout.fused if arch.fused_on_disk else layout.gate_up if arch.gate_up_on_disk else {}
    ours, shapes = model_shapes(arch), dict[str, tuple[int, ...]]()
    members: dict[str, tuple[str, ...]] = {}
    places = {}
    # In the order of the model, which is that of the rows in a tensor.
    for name, (rows, *inner) in ours.items():
        tensor = layout.name(name, fused)
        start = shapes[tensor][0] if tensor in shapes else 0
        places[name] = StoredRows(tensor, slice(start, start + rows))
        shapes[tensor] = (start + rows, *inner)
        members[tensor] = (*members.get(tensor, ()), name)
    return Arrangement(arch, layout, shapes, members, places)
