"""One operation of a forward pass, with FLOPs and bytes; llamalab.analytic.ops makes the table of them."""

from collections.abc import Iterable, Mapping
from functools import cache
from operator import attrgetter

from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple, TypeVar

T = TypeVar("T")
PARTS = ("embedding", "attention", "feed_forward", "head")
ROOFS = ("gemm", "attention", "copy")
# The moments of a pass by which memory is counted (llamalab.analytic.activations); empty: none of them.
STEPS = ("", "projections", "head norms", "rope", "attention", "output projection", "feed-forward", "logits")


class Op(NamedTuple):
    """One operation. All figures are for one occurrence; the model has `count` of them.

    kind is gather, gemm, elementwise, attention or collective, and determines the constants of its time. mode separates
    variants of a kind that may have other rates: attention in prefill and in decode, a product with one row, the
    elementwise operations of the plain model, a one-shot collective. link_bytes is what one rank sends to the others;
    reread_bytes is the part of read_bytes that the same operation has read before, possibly from a cache.

    part is its place in the model: one of PARTS. roof is the ceiling of its arithmetic: one of ROOFS; under `copy` its
    bytes alone count. step is the moment of STEPS whose memory it takes.
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
    part: str = ""
    roof: str = ""
    step: str = ""

    @property
    def section(self) -> str:
        """The part of the model that is timed as one: the embedding, a block or the head."""
        return "block" if self.part in ("attention", "feed_forward") else self.part

    @property
    def is_naive_step(self) -> bool:
        """Whether it is one of the steps of naive attention, which a fused kernel does at once."""
        return self.kind == "attention" and self.roof != "attention"

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
        """The class of its constants: its kind, for attention with its mode.

        The products and the softmax of naive attention have constants of their own.
        """
        return self.rate_classes[0]

    @property
    def rate_classes(self) -> tuple[str, ...]:
        """Its class, and the wider ones whose constants serve where that class has none."""
        return rate_classes(self.kind, self.mode, self.roof if self.is_naive_step else "")


@cache
def rate_classes(kind: str, mode: str, step: str = "") -> tuple[str, ...]:
    """The rate classes of an operation of a kind and a mode; `step` is the roof of a step of naive attention."""
    of_mode = f"{kind}_{mode}" if mode else kind
    wider = of_mode.removesuffix("_gather") if kind == "collective" else of_mode
    return tuple(dict.fromkeys((f"{of_mode}_{step}" if step else of_mode, of_mode, wider, kind)))


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


_summed = attrgetter(*Totals._fields)


def add_up(ops: Iterable[Op]) -> Totals:
    """Sum a table over its rows and their counts."""
    rows = [[op.count * value for value in _summed(op)] for op in ops]
    return Totals(*map(sum, zip(*rows, strict=True))) if rows else Totals(*[0] * len(Totals._fields))


_PART = Op._fields.index("part")  # roof and step follow


def placed(part: str, step: str, *ops: Op | None) -> tuple[Op, ...]:
    """The rows that exist, as rows of a part and step.

    Raises UnknownNameError for an unknown part, step or roof.
    """
    _among("part", part, PARTS)
    _among("step", step, STEPS)
    for op in filter(None, ops):
        if op.roof not in ROOFS:
            raise UnknownNameError(f"roof of {op.name}", op.roof, ROOFS)
    # Equal to op._replace(part=part, step=step) in a third of its time: a prediction makes thousands of rows.
    return tuple(Op._make((*op[:_PART], part, op.roof, step)) for op in ops if op is not None)


def row_names(name: str) -> tuple[str, ...]:
    """The rows of the op table that a measured row stands for: several, joined by +, where a model shows none of them.

    >>> row_names("layers.*.attention.rope+kv_append"), row_names("output")
    (('layers.*.attention.rope', 'layers.*.attention.kv_append'), ('output',))
    """
    home, dot, steps = name.rpartition(".")
    return tuple(home + dot + step for step in steps.split("+"))


def joined_name(names: tuple[str, ...]) -> str:
    """The name of one measured row for several rows of the op table; the inverse of row_names.

    >>> joined_name(("layers.*.attention.rope", "layers.*.attention.kv_append"))
    'layers.*.attention.rope+kv_append'
    """
    home, dot, _ = names[0].rpartition(".")
    return home + dot + "+".join(name.removeprefix(home + dot) for name in names)


def rows_named(name: str, table: Mapping[str, T]) -> tuple[T, ...]:
    """The entries of a table by operation name for a measured row. Raises UnknownNameError for a missing one."""
    for one in row_names(name):
        _among("operation of the cost table", one, tuple(table))
    return tuple(table[one] for one in row_names(name))


def _among(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UnknownNameError(kind, name, known)
