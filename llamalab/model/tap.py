"""Taps: functions that a forward pass calls at its points, to capture or to change tensors.

A tap is called as `tap(name, tensor)` at every point of llamalab.instrument.points, directly after
the operation that made the tensor; what it returns takes the tensor's place. A tap may have a method
`wants(name) -> bool`; without one it wants everything. It is asked only where a tensor would have to
be computed for the tap alone: scores and pattern under fused attention. Where it does not want them
whole it may have a method `attended(prefix, q_BHTE, k_BKSE, window=W)`, which is shown what they are made from.
A tap that only records when it is called has `reads_tensors = False`; no tensor is then converted for it.
"""

from typing import Protocol

from torch import Tensor


class Tap(Protocol):
    """Called with every named tensor; returns it, or another of its shape to go on with."""

    def __call__(self, name: str, tensor: Tensor, /) -> Tensor: ...


def wants(tap: Tap, name: str) -> bool:
    """Whether `tap` asks for the tensor of that name."""
    ask = getattr(tap, "wants", None)
    return True if ask is None else bool(ask(name))


def reads_tensors(tap: Tap) -> bool:
    """Whether `tap` reads the tensors it is called with."""
    return bool(getattr(tap, "reads_tensors", True))
