"""Times of the links between ranks, measured inside passes, between a rank's own work before and after a collective.

    sending     t0 + bytes that one rank sends / (e bandwidth), small and large collectives separately, as in the op
                table (analytic.parallel.collective_mode)
    waiting     a share of a rank's own work: equal work does not end at the same moment on all ranks
    resuming    own work outside all rows, per collective: after a thread has slept, caches hold other data; rows of a
                calibration follow each other without sleep

Back-to-back collectives give another time, because threads are awake and caches warm.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from statistics import mean, median, median_low
from typing import Any, NamedTuple, TypeVar

import torch

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.op import Op
from llamalab.analytic.parallel import all_gather_bytes, all_reduce_bytes, collective_mode
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, known_rates, predict_op
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.measure.calibration.fit import Fit, Kernel, fit_class
from llamalab.measure.ranks.logged import LoggedPass, LoggedRun, gathered, logged_pass, split_runs
from llamalab.measure.target.target import tokens_of
from llamalab.model import StaticKVCache
from llamalab.model.quantised.weights import kept_of
from llamalab.parallel.groups import check_groups
from llamalab.parallel.models import ready_share
from llamalab.parallel.team import Team
from llamalab.units import KeptWeights

P = TypeVar("P")
_SWEEPS, _WARM, _PASSES = 3, 1, 4


class LinkModel(NamedTuple):
    """A small model whose collectives are timed, by tokens of a pass: its buffers hold tokens times dim elements."""

    dim: int
    layers: int
    ffn_dim: int
    tokens: tuple[int, ...]

    def arch(self, ranks: int) -> LlamaArch:
        """Its shape, with heads for every rank."""
        heads = max(8, ranks)
        sizes = self.dim, self.layers, heads, heads, self.ffn_dim
        return LlamaArch(*sizes, vocab_size=self.dim, max_positions=2 * _PAST)


_PAST = 1024  # maximum positions: more than the tokens of any pass
# Work of 0.1 ms to some tens of ms between collectives, and, in the last, buffers of megabytes after little work.
# Rows of the two in the middle are whole groups of quantised weights on 2 and 4 ranks.
LINK_MODELS = (
    LinkModel(64, 5, 192, (1, 64)),
    LinkModel(512, 4, 1536, (1, 16, 128)),
    LinkModel(2048, 2, 6144, (1, 32)),
    LinkModel(2048, 2, 256, (128, 512)),
)


class LinkTime(NamedTuple):
    """A collective over a buffer of so many bytes in a pass: bytes that one rank sends, and its mean times.

    `compute_s` is a rank's own work before it; a pass has `calls` of them.
    """

    kind: str
    buffer_bytes: int
    link_bytes: int
    time_s: float
    waiting_s: float
    compute_s: float
    calls: int = 1

    def op(self, ranks: int) -> Op:
        """Its row of the cost table."""
        return Op(
            self.kind,
            "collective",
            1,
            read_bytes=self.buffer_bytes,
            written_bytes=self.buffer_bytes,
            link_bytes=self.link_bytes,
            mode=collective_mode(self.kind, self.buffer_bytes, ranks),
            roof="copy",
        )


class OwnWork(NamedTuple):
    """A rank's own seconds in a pass of so many tokens, with `collectives` between its parts.

    `kept` is the storage of the model's matrices, None where they are in the dtype of the pass.
    """

    arch: LlamaArch
    shape: PassShape
    own_s: float
    collectives: int
    kept: KeptWeights | None = None


class LinkRuns(NamedTuple):
    """Measurements of the links: collective by collective, and pass by pass."""

    collectives: list[LinkTime]
    passes: list[OwnWork]


def time_links(
    team: Team, dtype: str, storage: str | None = None, models: tuple[LinkModel, ...] = LINK_MODELS
) -> LinkRuns:
    """Run the models' passes on all ranks of a team at the same time, with every collective timed.

    Matrices are quantised to `storage` in the models whose groups the ranks leave whole. All models are swept several
    times, so that a disturbance of a second does not affect one of them alone.
    """
    archs = [small.arch(team.place.ranks) for small in models]
    with torch.inference_mode():
        held = [
            ready_share(team, arch, dtype=dtype, weight_dtype=_whole_groups(arch, team.place.ranks, storage))
            for arch in archs
        ]
        cases = [
            (model, _cache(model, dtype, team), tokens_of(arch, 1, tokens, team.device))
            for small, arch, model in zip(models, archs, held, strict=True)
            for tokens in small.tokens
        ]
        own: list[list[LoggedPass]] = [[] for _ in cases]
        for _ in range(_SWEEPS):
            for passes, (model, cache, tokens_BT) in zip(own, cases, strict=True):
                past = _past(tokens_BT.shape[1])
                passes += [logged_pass(model, tokens_BT, cache, past) for _ in range(_WARM + _PASSES)][_WARM:]
    runs = [list(split_runs(gathered(team.mesh.get_group(), passes))) for passes in own]
    works = [
        own_work(by_rank, model.arch, _shape(model, tokens_BT.shape[1], dtype), kept_of(model))
        for by_rank, (model, _, tokens_BT) in zip(runs, cases, strict=True)
    ]
    return LinkRuns([one for by_rank in runs for one in link_times(by_rank, team.place.ranks)], works)


def _whole_groups(arch: LlamaArch, ranks: int, storage: str | None) -> str | None:
    """The storage, None where the ranks would cut its groups."""
    with suppress(InputError):
        check_groups(arch, ranks, storage)
        return storage
    return None


def _shape(model: Any, tokens: int, dtype: str) -> PassShape:
    return PassShape(
        new_tokens=tokens,
        context_tokens=tokens + _past(tokens),
        dtype=dtype,
        attention=model.backend.algorithm,
        tensor_parallel=model.link.ranks,
    )


def _past(tokens: int) -> int:
    return _PAST if tokens == 1 else 0


def _cache(model: Any, dtype: str, team: Team) -> StaticKVCache:
    return StaticKVCache(model.rank_arch, batch=1, max_tokens=2 * _PAST, dtype=dtype, device=team.device)


def link_times(by_rank: list[list[LoggedRun]], ranks: int) -> list[LinkTime]:
    """Times of each collective over all ranks: means of a pass, medians of a sweep, the middle sweep."""
    passes = [_means(runs) for runs in zip(*by_rank, strict=True)]
    calls = Counter((one.kind, one.buffer_bytes) for one in by_rank[0][0].collectives)
    found = []
    for kind, buffer_bytes in calls:
        what = kind, buffer_bytes
        medians = [tuple(median(one[what][axis] for one in sweep) for axis in range(3)) for sweep in _sweeps(passes)]
        sending, waiting, compute = median_low(medians)
        link = _link_bytes(kind, buffer_bytes, ranks)
        seconds = {"time_s": sending, "waiting_s": waiting, "compute_s": compute}
        found.append(LinkTime(kind, buffer_bytes, link, calls=calls[what], **seconds))
    return found


def own_work(
    by_rank: list[list[LoggedRun]], arch: LlamaArch, shape: PassShape, kept: KeptWeights | None = None
) -> OwnWork:
    """A rank's own work in passes of all ranks: means of a pass, medians of a sweep, the middle sweep."""
    passes = [mean(run.compute_s for run in runs) for runs in zip(*by_rank, strict=True)]
    own_s = median_low([median(sweep) for sweep in _sweeps(passes)])
    return OwnWork(arch, shape, own_s, len(by_rank[0][0].collectives), kept)


def resuming_s(works: Iterable[OwnWork], rates: Mapping[str, Rates], storage: str | None = None) -> float:
    """Own seconds outside the rows, per collective: the median over passes of one token, where rows are short.

    `rates` are of matrices in `storage`, and so are the models whose passes count. 0 where constants are missing, where
    ranks cut the groups of every model, or where rows are predicted too slow.
    """
    found = []
    for work in works:
        rows = [op for op in model_ops(work.arch, work.shape, work.kept) if op.kind != "collective"]
        known = [(op, known_rates(op, rates)) for op in rows]
        same = storage == (work.kept.storage if work.kept else None)
        if same and work.shape.new_tokens == 1 and all(one for _, one in known):
            rows_s = sum(op.count * predict_op(op, one).time_s for op, one in known if one)
            found.append((work.own_s - rows_s) / work.collectives)
    return max(0.0, median(found)) if found else 0.0


def _sweeps(passes: list[P]) -> list[list[P]]:
    return [passes[first : first + _PASSES] for first in range(0, len(passes), _PASSES)]


def _means(runs: tuple[LoggedRun, ...]) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Seconds of sending, waiting and own work before, by collective and buffer, over the ranks of one pass."""
    found = defaultdict(list)
    for run in runs:
        for one in run.collectives:
            found[one.kind, one.buffer_bytes].append((one.communication_s, one.waiting_s, one.compute_s))
    return {what: tuple(map(mean, zip(*times, strict=True))) for what, times in found.items()}


def fit_link(times: list[LinkTime], ranks: int) -> dict[str, Fit]:
    """Constants of the classes of collectives, each collective weighed by its occurrences.

    The roof of their rates is the best rate above the shortest time of any: the cost of a further byte.
    """
    by_class: dict[str, list[Kernel]] = defaultdict(list)
    for one in times:
        by_class[one.op(ranks).rate_class].append(Kernel(one.op(ranks), one.time_s, one.calls))
    shortest_s = min(one.time_s for one in times)
    roof = max(one.link_bytes / (one.time_s - (shortest_s if one.time_s > 2 * shortest_s else 0.0)) for one in times)
    return {name: fit_class(kernels, None, roof) for name, kernels in by_class.items()}


def waiting_share(times: list[LinkTime]) -> float:
    """Seconds of waiting for other ranks per second of own work: the median over collectives that follow work.

    >>> waiting_share([LinkTime("all_reduce", 8, 8, 1.0, waiting, 2.0) for waiting in (0.02, 0.04, 0.9)])
    0.02
    """
    return median(one.waiting_s / one.compute_s for one in times if one.kind == "all_reduce")


def _link_bytes(kind: str, buffer_bytes: int, ranks: int) -> int:
    return (all_reduce_bytes if kind == "all_reduce" else all_gather_bytes)(buffer_bytes, ranks)
