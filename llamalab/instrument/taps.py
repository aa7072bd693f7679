"""Taps to hand to a forward pass: keep tensors, replace them, or do several things at once.

Names are those of llamalab.instrument.points with a layer's number, chosen by shell patterns in
which `*` stands for anything: "layers.3.attention.*", "*.resid_post", "logits".
"""

import re
from collections.abc import Callable
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from llamalab.arch import MAX_LAYERS
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.points import POINTS

if TYPE_CHECKING:
    from torch import Tensor

    from llamalab.model.tap import Tap


class Selection:
    """The points that match any of some patterns; raises UnknownNameError for one that matches none."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        if not patterns:
            raise InputError("a tap must be given at least one pattern; got none; try '*' for every point")
        for pattern in patterns:
            _check_pattern(pattern)
        self._match = re.compile("|".join(map(translate, patterns))).match

    def wants(self, name: str) -> bool:
        """Whether the point of that name is chosen."""
        return self._match(name) is not None


class Capture(Selection):
    """A tap that keeps the tensors of the chosen points.

    Tensors are kept as they are, with their graph, not copied; of a point that fires again, the
    latest is kept. Those of `k_cache` and `v_cache` may be views of a cache that changes later.

    >>> tap = Capture("layers.*.attention.q")
    >>> tap.wants("layers.7.attention.q"), tap.wants("layers.7.attention.k")
    (True, False)
    """

    def __init__(self, *patterns: str) -> None:
        super().__init__(patterns)
        self.tensors: dict[str, Tensor] = {}

    def __call__(self, name: str, tensor: "Tensor", /) -> "Tensor":
        if self.wants(name):
            self.tensors[name] = tensor
        return tensor


class Edit(Selection):
    """A tap that replaces the tensors of the points matching `pattern` by `function(tensor)`."""

    def __init__(self, pattern: str, function: Callable[["Tensor"], "Tensor"]) -> None:
        super().__init__((pattern,))
        self._function = function

    def __call__(self, name: str, tensor: "Tensor", /) -> "Tensor":
        return self._function(tensor) if self.wants(name) else tensor


class Combined:
    """A tap that hands every tensor through several taps in turn; it wants what any of them wants."""

    def __init__(self, *taps: "Tap") -> None:
        self._taps = taps

    def wants(self, name: str) -> bool:
        """Whether any of the taps wants the point of that name."""
        return any(not hasattr(tap, "wants") or tap.wants(name) for tap in self._taps)

    def __call__(self, name: str, tensor: "Tensor", /) -> "Tensor":
        for tap in self._taps:
            tensor = tap(name, tensor)
        return tensor


def capture(model: Callable[..., Any], tokens_BT: "Tensor", *patterns: str, **options: Any) -> "dict[str, Tensor]":
    """Run one forward pass without gradients and return the tensors of the points that match.

    Options are those of the forward pass: `cache`, `logits`.

    >>> import llamalab, torch
    >>> model = llamalab.build("stories260k", dtype="fp32")
    >>> llamalab.capture(model, torch.tensor([[1, 2, 3]]), "layers.0.attention.p*")["layers.0.attention.pattern"].shape
    torch.Size([1, 8, 3, 3])
    """
    import torch

    tap = Capture(*patterns)
    with torch.no_grad():
        model(tokens_BT, tap=tap, **options)
    return tap.tensors


def _check_pattern(pattern: str) -> None:
    match = re.compile(translate(pattern)).match
    # A pattern may name any layer: try them all, the first ones first.
    layers = range(MAX_LAYERS)
    if not any(match(point.name.replace("*", str(layer), 1)) for layer in layers for point in POINTS):
        raise UnknownNameError(
            "a point", pattern, [point.name for point in POINTS], hint=" or a pattern that matches one"
        )
