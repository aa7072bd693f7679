"""Predicted gains of a pass on several ranks from sequence parallelism and from overlap.

Sequence parallelism (Korthikanti et al. 2022, arXiv 2205.05198) gives each rank its part of the tokens in norms and
residual sums: an all-reduce becomes a reduce-scatter and an all-gather of the same bytes together, and those operations
work on 1 / N of the rows. Overlap hides collectives behind products: at best only the longer of the two remains.
"""

from collections.abc import Iterable

from llamalab.analytic.op import Op
from llamalab.startup.hints import NamedTuple


class RankGains(NamedTuple):
    """Predicted seconds of a pass, and the seconds that each change would save at best."""

    pass_s: float
    communication_s: float
    sequence_parallel_saves_s: float
    overlap_saves_s: float


def rank_gains(predicted: Iterable[tuple[Op, float]], ranks: int) -> RankGains:
    """Savings in a pass of these rows, each given with the predicted seconds of one occurrence.

    >>> norm, reduce = Op("layers.*.ffn_norm", "elementwise", 1, mode="norm"), Op("x", "collective", 1)
    >>> rank_gains([(norm, 4.0), (reduce, 3.0), (Op("w", "gemm", 2), 5.0)], 2)
    RankGains(pass_s=17.0, communication_s=3.0, sequence_parallel_saves_s=2.0, overlap_saves_s=3.0)
    """
    rows = [(op, op.count * seconds) for op, seconds in predicted]
    communication_s = sum(seconds for op, seconds in rows if op.kind == "collective")
    repeated_s = sum(seconds for op, seconds in rows if op.name.startswith("layers.*.") and _repeated(op))
    products_s = sum(seconds for op, seconds in rows if op.kind == "gemm")
    return RankGains(
        sum(seconds for _, seconds in rows),
        communication_s,
        repeated_s * (1 - 1 / ranks),
        min(communication_s, products_s),
    )


def _repeated(op: Op) -> bool:
    """Whether every rank does it for all tokens and the whole width: norms and residual sums of a block."""
    return op.kind == "elementwise" and op.name.endswith(("_norm", "_residual")) and ".attention." not in op.name
