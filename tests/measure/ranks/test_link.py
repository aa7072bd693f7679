"""What logs of passes tell of the links: sending and waiting apart, the best sweep, and constants that were put in."""

import pytest

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.parallel import all_gather_bytes, all_reduce_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import predict_op, rates_of_op
from llamalab.measure.ranks.link import (
    LINK_MODELS,
    LinkTime,
    OwnWork,
    fit_link,
    link_times,
    resuming_s,
    waiting_share,
)
from llamalab.measure.ranks.logged import LoggedPass, LoggedRun, SentTime, split_runs
from llamalab.model.own_share import Sent
from llamalab.parallel.groups import check_groups
from llamalab.units import QUANTISED, KeptWeights
from tests.report.sample_ranks import RATES


def run_of(sending_s: float, waiting_s: float) -> LoggedRun:
    return LoggedRun((SentTime("all_reduce", 64, 1.0, waiting_s, sending_s),) * 2, 0.5)


def test_the_time_until_the_last_rank_begins_is_waiting_and_work_is_what_is_left() -> None:
    early = LoggedPass(0.0, 9.0, [Sent("all_reduce", 8, 1.0, 4.0), Sent("all_gather", 16, 6.0, 8.0)])
    late = LoggedPass(0.5, 9.5, [Sent("all_reduce", 8, 3.0, 4.5), Sent("all_gather", 16, 5.5, 8.0)])
    (one,), (other,) = split_runs([[early], [late]])
    assert (one.compute_s, one.waiting_s, one.communication_s) == (4.0, 2.0, 3.0)
    assert (other.compute_s, other.waiting_s, other.communication_s) == (5.0, 0.5, 3.5)
    for run, whole in ((one, early), (other, late)):
        parts = run.compute_s + run.waiting_s + run.communication_s
        assert parts == pytest.approx(whole.ended_s - whole.began_s)


def test_a_disturbed_sweep_does_not_count_nor_does_a_lucky_one() -> None:
    sweeps = [run_of(9.0, 5.0)] * 4 + [run_of(2.0, 0.25)] * 3 + [run_of(30.0, 1.0)] + [run_of(0.5, 0.1)] * 4
    (found,) = link_times([sweeps, sweeps], ranks=2)
    assert found == LinkTime("all_reduce", 64, all_reduce_bytes(64, 2), 2.0, 0.25, 1.0, 2)


def own_works(extra_s: float, kept: KeptWeights | None) -> list[OwnWork]:
    """Passes of the models whose rows take what the rates say, and so much more after every collective of a token's."""
    works = []
    for model in LINK_MODELS:
        for tokens in model.tokens:
            arch = model.arch(2)
            shape = PassShape(new_tokens=tokens, context_tokens=tokens + 1024, tensor_parallel=2)
            ops = [op for op in model_ops(arch, shape, kept) if op.kind != "collective"]
            rows_s = sum(op.count * predict_op(op, rates_of_op(op, RATES)).time_s for op in ops)
            calls = 2 * arch.n_layers + 2
            works.append(OwnWork(arch, shape, rows_s + calls * (extra_s if tokens == 1 else 1.0), calls, kept))
    return works


@pytest.mark.parametrize("kept", [None, KeptWeights("int8", "kernel", 8)])
@pytest.mark.parametrize(("extra_s", "found_s"), [(3e-4, 3e-4), (0.0, 0.0), (-1e-4, 0.0)])
def test_own_work_beside_the_rows_is_what_a_collective_costs_its_rank(
    extra_s: float, found_s: float, kept: KeptWeights | None
) -> None:
    """In passes of a token; longer ones tell of their products, and models in another storage of that one."""
    storage = kept and kept.storage
    works = [*own_works(extra_s, kept), *own_works(9.0, KeptWeights("q4_0"))]
    assert resuming_s(works, RATES, storage) == pytest.approx(found_s)
    assert resuming_s(works, {}, storage) == 0.0
    assert resuming_s(works, RATES, "int4") == 0.0


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("storage", QUANTISED)
def test_quantised_models_tell_of_a_collectives_cost_too(storage: str, ranks: int) -> None:
    """Those whose steps are timed: two at least keep whole groups."""
    for model in [one for one in LINK_MODELS if 1 in one.tokens][1:]:
        check_groups(model.arch(ranks), ranks, storage)


def test_waiting_is_told_by_collectives_that_follow_work() -> None:
    times = [LinkTime("all_reduce", 8, 8, 1.0, waiting, 2.0) for waiting in (0.1, 0.2, 9.0)]
    assert waiting_share([*times, LinkTime("all_gather", 8, 8, 1.0, 50.0, 0.001)]) == pytest.approx(0.1)


@pytest.mark.parametrize("ranks", [2, 4])
def test_constants_that_were_put_in_come_out(ranks: int) -> None:
    """A fixed time and a rate a class: small and large, sums and gathers."""
    given = {"all_reduce": (200e-6, 2e9), "all_gather": (100e-6, 4e9)}
    sent = {"all_reduce": all_reduce_bytes, "all_gather": all_gather_bytes}
    times = [
        LinkTime(kind, size, sent[kind](size, ranks), t0 + sent[kind](size, ranks) / rate, 0.0, 1.0)
        for kind, (t0, rate) in given.items()
        for size in (2**power for power in range(8, 24, 2))
    ]
    fits = fit_link(times, ranks)
    assert sorted(fits) == ["collective", "collective_gather", "collective_one_shot", "collective_one_shot_gather"]
    assert all(fit.error < 0.02 for fit in fits.values())
    assert fits["collective_one_shot"].rates.t0_s == pytest.approx(200e-6, rel=0.05)
    assert fits["collective_one_shot_gather"].rates.t0_s == pytest.approx(100e-6, rel=0.05)


@pytest.mark.parametrize("ranks", [2, 4, 16])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_the_models_have_small_and_large_buffers_that_all_ranks_divide(ranks: int, itemsize: int) -> None:
    buffers = [tokens * model.dim * itemsize for model in LINK_MODELS for tokens in model.tokens]
    assert min(buffers) < 2**10
    assert sum(buffer >= 2**19 for buffer in buffers) >= 2
    for model in LINK_MODELS:
        arch = model.arch(ranks)
        assert {size % ranks for size in (arch.n_heads, arch.dim, arch.ffn_dim, arch.vocab_size)} == {0}
