"""The bytes that operations read and write: those of inputs and outputs of everything that is no view."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it."""
        result = func(*args, **(kwargs or {}))
        read, written = _tensors([args, *(kwargs or {}).values()]), _tensors([result])
        if func._schema.is_mutable or not _is_view(read, written):
            if "embedding" in func.__name__:
                read = written
            elif func.__name__.startswith(("copy_", "fill_", "zero_")):
                read = read[1:]
            self.bytes += sum(tensor.nbytes for tensor in (*read, *written))
        return result


def _is_view(read: list[torch.Tensor], written: list[torch.Tensor]) -> bool:
    """Whether nothing was moved: what came out lies where the first input does."""
    places = [tensors[0].untyped_storage().data_ptr() for tensors in (read, written) if tensors]
    return len(places) == 2 and places[0] == places[1]


def _tensors(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    return [found for value in values for found in _tensors(value)] if isinstance(values, list | tuple) else []
