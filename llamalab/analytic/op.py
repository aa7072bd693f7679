"""One operation of a forward pass: what it computes and what it moves; llamalab.analytic.ops makes a table of them."""

from collections.abc import Iterable
from typing import NamedTuple


class Op(NamedTuple):
    """One operation. All figures are for one occurrence; the model has `count` of them.

    kind is gather, gemm, elementwise, attention or collective: what its time depends on. mode tells
    variants of a kind apart that a machine may run at other rates: attention in prefill and in decode,
    a product with one row, the elementwise operations of the plain model, a collective in one shot.
    link_bytes is what one rank sends to the others; reread_bytes is the part of read_bytes that the
    same operation has read before: a cache may hold it.
    """

    name: str
    kind: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls on an op
    flops_full: int = 0
    flops_causal: int = 0
    vector_flops: int = 0
    weight_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    link_bytes: int = 0
    reread_bytes: int = 0
    mode: str = ""

    @property
    def bytes(self) -> int:
        """Weights, activations and KV cache moved by one occurrence."""
        return self.weight_bytes + self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """Causal matrix FLOPs per byte moved."""
        return self.flops_causal / self.bytes

    @property
    def rate_class(self) -> str:
        """The class whose constants it is timed with: its kind, for attention with its mode."""
        return f"{self.kind}_{self.mode}" if self.mode else self.kind


class Totals(NamedTuple):
    """An op table added up over all occurrences."""

    flops_full: int
    flops_causal: int
    vector_flops: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int
    link_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Everything moved."""
        return self.weight_bytes + self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """Causal matrix FLOPs per byte moved."""
        return self.flops_causal / self.bytes


def add_up(ops: Iterable[Op]) -> Totals:
    """Sum a table over its rows and their counts."""
    ops = tuple(ops)
    return Totals(*(sum(op.count * getattr(op, field) for op in ops) for field in Totals._fields))
