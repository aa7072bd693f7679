"""The choice of points and of a part of each tensor: name patterns, layers, slices of tokens and heads.

A pattern is a shell pattern over the names of llamalab.instrument.points with a layer's number, in
which `*` stands for anything: "layers.3.attention.*", "*.resid_post", "logits".
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import TYPE_CHECKING

from llamalab.arch.fields import MAX_LAYERS
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.points import POINTS, point_of

if TYPE_CHECKING:
    from torch import Tensor

Indices = int | slice | Iterable[int]


class Selection:
    """The points that match any of some patterns, of some layers or all.

    `n_layers` is the model's depth, where known, and `names` the points of a model other than a Llama. Raises
    InputError for no pattern or a layer out of range, UnknownNameError for a pattern that matches no point.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        *,
        layers: Iterable[int] | None = None,
        n_layers: int = MAX_LAYERS,
        names: Sequence[str] | None = None,
    ) -> None:
        wanted = tuple(patterns)
        if not wanted:
            raise InputError("a tap must be given at least one pattern; got none; try '*' for every point")
        if names is not None and layers is not None:
            raise InputError("layers must be left out for a model of several stacks; name them in the pattern")
        every = _names(n_layers) if names is None else list(names)
        # A set, since it is queried at every point and must be traceable by torch.compile.
        chosen = frozenset(name for pattern in wanted for name in _matching(pattern, every))
        self.names = chosen if layers is None else _in_layers(chosen, frozenset(layers), n_layers)
        self._every = every

    def wants(self, name: str) -> bool:
        """Whether the point of that name is chosen."""
        return name in self.names

    def in_order(self) -> list[str]:
        """The names in the order of a pass."""
        return [name for name in self._every if name in self.names]


class TensorPart:
    """The tokens and heads to take of a tensor; a single index keeps its axis.

    Tokens are those of the pass (axis T); heads are those of the tensor's own axis, query heads (H) or
    KV heads (K). A tensor without such an axis is taken whole.
    """

    def __init__(self, tokens: Indices | None = None, heads: Indices | None = None) -> None:
        self.tokens, self.heads = _plain(tokens), _plain(heads)
        self.whole = tokens is None and heads is None

    def of(self, name: str, tensor: "Tensor") -> "Tensor":
        """The part of a point's tensor. Raises InputError for an index out of range."""
        if self.whole:
            return tensor
        shape = point_of(name).shape
        if shape[1] in "HK":
            tensor = take(tensor, 1, self.heads, f"heads of {name}")
        return take(tensor, -2, self.tokens, f"tokens of {name}") if shape[-2] == "T" else tensor


def take(tensor: "Tensor", axis: int, indices: slice | tuple[int, ...] | None, what: str) -> "Tensor":
    """Some places of an axis; a view where they are a slice."""
    if indices is None:
        return tensor
    size = tensor.shape[axis]
    if isinstance(indices, slice):
        start, stop, step = indices.indices(size)
        if step == 1:
            return tensor.narrow(axis, start, max(0, stop - start))
        return tensor.index_select(axis, _index(tuple(range(start, stop, step)), tensor))
    wrong = [index for index in indices if not -size <= index < size]
    if wrong:
        raise InputError(f"{what} must be below {size}; got {wrong[0]}")
    return tensor.index_select(axis, _index(tuple(index % size for index in indices), tensor))


def _index(indices: tuple[int, ...], like: "Tensor") -> "Tensor":
    import torch

    return torch.tensor(indices, device=like.device)


def _plain(indices: Indices | None) -> slice | tuple[int, ...] | None:
    if indices is None or isinstance(indices, slice):
        return indices
    listed = (indices,) if isinstance(indices, int) else tuple(indices)
    if any(type(index) is not int for index in listed):
        raise InputError(f"tokens and heads must be whole numbers or a slice; got {listed!r}")
    return listed


def _names(n_layers: int) -> list[str]:
    """Every point, in the order of a pass."""
    first, *last = (point.name for point in POINTS if "*" not in point.name)
    per_layer = [point.name for point in POINTS if "*" in point.name]
    layered = [name.replace("*", str(layer)) for layer in range(n_layers) for name in per_layer]
    return [first, *layered, *last]


def _matching(pattern: str, names: list[str]) -> list[str]:
    match = re.compile(translate(pattern)).match
    found = [name for name in names if match(name)]
    if not found:
        known = [point.name for point in POINTS] if names[0] == POINTS[0].name else names
        raise UnknownNameError("a point", pattern, known, hint=" or a pattern that matches one")
    return found


def _in_layers(names: frozenset[str], layers: frozenset[int], n_layers: int) -> frozenset[str]:
    """Names of the given layers, and of points outside layers."""
    wrong = sorted(layer for layer in layers if not 0 <= layer < n_layers)
    if wrong or not layers:
        raise InputError(f"layers must be from 0 to {n_layers - 1}; got {wrong[0] if wrong else 'none'}")
    return frozenset(name for name in names if (layer := layer_of(name)) is None or layer in layers)


def layer_of(name: str) -> int | None:
    """The layer in a point's name.

    >>> layer_of("layers.3.attention.q"), layer_of("logits")
    (3, None)
    """
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "layers" else None
