"""The collectives that run, counted at torch's dispatch, and those of the op table.

Both of torch's families are counted: the functional ones, which DTensor uses, and those of the process group, which a
model of plain shares uses. Bytes are those of the whole buffer: the input of an all-reduce, the output of an
all-gather.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from llamalab.analytic.op import Op

_KINDS = {
    "_c10d_functional::all_reduce": "all_reduce",
    "_c10d_functional::all_gather_into_tensor": "all_gather",
    "c10d::allreduce_": "all_reduce",
    "c10d::allgather_": "all_gather",
    "c10d::_allgather_base_": "all_gather",
}
_SILENT = ("_c10d_functional::wait_tensor", "_c10d_functional::_wrap_tensor_autograd")  # nothing is sent


class Collective(NamedTuple):
    """A kind of collective over a buffer of so many bytes."""

    kind: str
    buffer_bytes: int


class CountedCollectives(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context manager whose `calls` counts every collective of this process.

    An unknown kind, such as a broadcast, is counted by its name with the bytes of its tensors.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[Collective] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it will ask for what it is made of
        made = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name.startswith(("c10d::", "_c10d_functional::")) and name not in _SILENT:
            kind = _KINDS.get(name, name)
            # The output holds the whole buffer; in the functional family it is one tensor.
            whole = sum(tensor.nbytes for tensor in _tensors(made if name.startswith("_") else args[0]))
            self.calls[Collective(kind, whole)] += 1
        return made


def expected_collectives(ops: Iterable[Op]) -> Counter[Collective]:
    """The collectives of one pass in an op table.

    >>> from llamalab.analytic.ops import forward_ops
    >>> from llamalab.analytic.pass_shape import PassShape
    >>> from llamalab.presets import PRESETS
    >>> ops = forward_ops(PRESETS["7b"].arch, PassShape(new_tokens=8, tensor_parallel=2))
    >>> sum(expected_collectives(ops).values())
    66
    """
    found: Counter[Collective] = Counter()
    for op in ops:
        if op.kind == "collective":
            found[Collective(op.name.rpartition(".")[2], op.read_bytes)] += op.count
    return found


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
