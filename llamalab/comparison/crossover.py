"""The prompt length from which flash attention stays faster than naive."""

from llamalab.comparison.attention_rows import AttentionRow
from llamalab.comparison.comparison import Comparison
from llamalab.startup.hints import NamedTuple


class Crossover(NamedTuple):
    """From which length a flash backend stays faster than naive; None where it never does."""

    backend: str
    tokens: int | None
    longest: int
    speedup: float


def crossover(comparison: Comparison) -> Crossover | None:
    """The length from which the fastest flash backend is faster than naive; None where either was not measured."""
    naive = _by_length(comparison, "naive")
    flash = _by_length(comparison, "flash")
    lengths = sorted(naive.keys() & flash.keys())
    if not lengths:
        return None
    ahead = None
    for tokens in reversed(lengths):
        if _seconds(flash[tokens]) >= _seconds(naive[tokens]):
            break
        ahead = tokens
    longest = lengths[-1]
    return Crossover(flash[longest].point.backend, ahead, longest, _seconds(naive[longest]) / _seconds(flash[longest]))


def _by_length(comparison: Comparison, algorithm: str) -> dict[int, AttentionRow]:
    """The fastest measured backend of an algorithm at each prompt length."""
    best: dict[int, AttentionRow] = {}
    for row in comparison.attention:
        point = row.point
        if point.algorithm != algorithm or not point.samples_s or point.new_tokens != point.context_tokens:
            continue
        if point.new_tokens not in best or _seconds(row) < _seconds(best[point.new_tokens]):
            best[point.new_tokens] = row
    return best


def _seconds(row: AttentionRow) -> float:
    assert row.measured_s is not None
    return row.measured_s
