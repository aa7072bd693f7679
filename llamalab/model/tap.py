"""Taps: functions that a forward pass calls at its points, to capture or to change tensors.

A tap is called as `tap(name, tensor)` at every point of llamalab.instrument.points, directly after
the operation that made the tensor; what it returns takes the tensor's place, and must be a tensor of the
same shape, dtype and device. A tap that never changes anything says `edits = False`. A tap may have a method
`wants(name) -> bool`; without one it wants everything. It is asked only where a tensor would have to
be computed for the tap alone: scores and pattern under fused attention. Where it does not want them
whole it may have a method `attended(prefix, q_BHTE, k_BKSE, **view)`, which is shown what they are made from:
`window=W` of the built-in model, `mask=` of another library's. A tap that only records when it is called has
`reads_tensors = False`; no tensor is then converted for it.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from llamalab.errors import InputError


class Tap(Protocol):
    """Called with every named tensor; returns it, or another of its shape to go on with."""

    def __call__(self, name: str, tensor: Tensor, /) -> Tensor: ...


class Combined:
    """Several taps in order: each gets the result of the one before it, which is checked."""

    def __init__(self, *taps: Tap) -> None:
        self.taps = taps
        self.reads_tensors = any(reads_tensors(tap) for tap in taps)

    def wants(self, name: str) -> bool:
        """Whether any of the taps wants the point of that name."""
        return any(wants(tap, name) for tap in self.taps)

    def attended(self, prefix: str, q_BHTE: Tensor, k_BKSE: Tensor, **view: Any) -> None:
        """Pass queries and keys to the taps with an `attended` method."""
        for tap in self.taps:
            if hasattr(tap, "attended"):
                tap.attended(prefix, q_BHTE, k_BKSE, **view)

    def __call__(self, name: str, tensor: Tensor, /) -> Tensor:
        for tap in self.taps:
            tensor = _checked(tap, name, tensor) if getattr(tap, "edits", True) else tap(name, tensor)
        return tensor


def wants(tap: Tap, name: str) -> bool:
    """Whether `tap` wants the tensor of that name."""
    ask = getattr(tap, "wants", None)
    return True if ask is None else bool(ask(name))


def reads_tensors(tap: Tap) -> bool:
    """Whether `tap` reads the tensors it is called with."""
    return bool(getattr(tap, "reads_tensors", True))


def edits(tap: Tap, name: str) -> bool:
    """Whether `tap` may change the tensor of that name."""
    if isinstance(tap, Combined):
        return any(edits(one, name) for one in tap.taps)
    return bool(getattr(tap, "edits", True)) and wants(tap, name)


def joined(first: Tap | None, second: Tap | None) -> Tap | None:
    """One tap that applies both, and checks their results; None for none."""
    taps = [tap for tap in (first, second) if tap is not None]
    if len(taps) == 1 and (isinstance(taps[0], Combined) or not getattr(taps[0], "edits", True)):
        return taps[0]
    return Combined(*taps) if taps else None


def tap_detecting_edit(tap: Tap, name: str, tensor: Tensor) -> tuple[Tensor, bool]:
    """The tap's result, and whether it is an edit: another tensor, or the same one with other values."""
    if not edits(tap, name):
        return tap(name, tensor), False
    if torch.compiler.is_compiling():
        return tap(name, tensor), True  # a traced graph cannot read values: continue with the result
    before = tensor.detach().clone()
    result = tap(name, tensor)
    return result, result is not tensor or not _same_values(before, tensor)


def recomputing() -> bool:
    """Whether a backward pass recomputes a part of the model (gradient checkpointing), whose points fired before."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def outside_checkpointing() -> AbstractContextManager[Any]:
    """A context for computations of a tap alone: gradient checkpointing ignores the tensors that they save."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _checked(tap: Tap, name: str, tensor: Tensor) -> Tensor:
    """The tap's result. Raises InputError where it cannot replace the tensor."""
    shape, dtype, device = tensor.shape, tensor.dtype, tensor.device
    result = tap(name, tensor)
    if not isinstance(result, Tensor):
        raise InputError(
            f"an edit of {name} must return a tensor; got {type(result).__name__}; return the tensor it was given "
            "to leave it as it is"
        )
    for what, got, needed in (
        ("shape", tuple(result.shape), tuple(shape)),
        ("dtype", result.dtype, dtype),
        ("device", result.device, device),
    ):
        if got != needed:
            raise InputError(f"an edit of {name} must keep its {what}, {needed}; got {got}")
    return result


def _same_values(one: Tensor, other: Tensor) -> bool:
    """Whether all values are equal; NaN is equal to NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
