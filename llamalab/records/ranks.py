"""The results of several ranks: passes split rank by rank, and their links."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RankTime:
    """Seconds of a pass on one rank: its own work, collectives while all took part, and waiting for others."""

    rank: int
    compute_s: float
    communication_s: float
    waiting_s: float


@dataclass(frozen=True, kw_only=True)
class RanksPass:
    """A pass on `ranks` ranks, of `layers_measured` blocks; medians over `passes_s`, which are the slowest rank's.

    `collectives` counts those that ran by kind and bytes, `collectives_expected` those of the op table; `kv_dtype` is
    the storage of the cache, null where it is in the dtype of activations.
    """

    phase: str
    ranks: int
    batch: int
    new_tokens: int
    context_tokens: int
    layers_measured: int
    attention: str
    passes_s: list[float]
    by_rank: list[RankTime]
    collectives: dict[str, int]
    collectives_expected: dict[str, int]
    kv_dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class RanksRun:
    """Everything that ranks measured together; `constants` are those of one of the ranks, with their links.

    `fewer` are the same passes on the first few of the ranks alone.
    """

    ranks: int
    backend: str
    threads_per_rank: int
    layers_total: int
    passes: list[RanksPass]
    constants: dict[str, Any] | None = None
    fewer: list[RanksPass] = field(default_factory=list)
