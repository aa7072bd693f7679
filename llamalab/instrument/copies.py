"""Copies of tapped tensors in separate buffers, readable once an asynchronous copy has finished."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Arrived(MutableMapping[str, "Tensor"]):
    """Kept tensors for reading: call `wait` first, since an unfinished copy has undefined values."""

    def __init__(self, kept: "dict[str, Tensor]", wait: Callable[[], None]) -> None:
        self._kept, self._wait = kept, wait

    def __getitem__(self, name: str) -> "Tensor":
        self._wait()
        return self._kept[name]

    def __setitem__(self, name: str, tensor: "Tensor") -> None:
        self._kept[name] = tensor

    def __delitem__(self, name: str) -> None:
        del self._kept[name]

    def __or__(self, other: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        return {**self, **other}

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def buffer_like(like: "Tensor", device: str | None) -> "Tensor":
    """A buffer for one tensor, usable in and out of inference mode; pinned where an accelerator fills it."""
    import torch

    place = torch.device(device) if device is not None else like.device
    pinned = place.type == "cpu" and like.device.type not in ("cpu", "meta")
    if torch.compiler.is_compiling():
        return torch.empty_like(like, device=place)
    with torch.inference_mode(False):
        # In the memory order of the tensor, so that the copy is contiguous.
        return torch.empty_like(like, device=place, pin_memory=pinned, requires_grad=False)
