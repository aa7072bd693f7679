"""Passes on several ranks against what the ranks' own constants predict."""

import dataclasses

import pytest

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import predict_op, rates_of_op
from llamalab.comparison.ranks import RanksPhase, ranks_phases
from tests.report.sample import sample_record
from tests.report.sample_ranks import RATES, WAITING_SHARE, constants, sample_run

PASS = PassShape(new_tokens=512, tensor_parallel=2)


@pytest.fixture(scope="module")
def prefill() -> RanksPhase:
    return ranks_phases(sample_record(ranks=sample_run()))[0]


def test_a_pass_is_its_own_work_what_it_sends_and_a_share_of_its_work_in_waiting(prefill: RanksPhase) -> None:
    ops = forward_ops(prefill.arch, PASS)
    times = [(op.kind == "collective", op.count * predict_op(op, rates_of_op(op, RATES)).time_s) for op in ops]
    work_s, sent_s = (sum(seconds for sends, seconds in times if sends is which) for which in (False, True))
    split = prefill.predicted_split
    assert split is not None
    assert (split.compute_s, split.communication_s) == pytest.approx((work_s, sent_s))
    assert split.waiting_s == pytest.approx(WAITING_SHARE * work_s)
    assert prefill.predicted_s == pytest.approx((1 + WAITING_SHARE) * work_s + sent_s)
    assert prefill.error == pytest.approx((prefill.predicted_s or 0.0) / 0.15 - 1)


def test_quantised_weights_and_their_cache_are_predicted_as_they_are_kept() -> None:
    run = sample_run()
    other = dataclasses.replace(run, passes=[dataclasses.replace(one, kv_dtype="fp8") for one in run.passes])
    record = dataclasses.replace(sample_record(ranks=other), weight_dtype="int8", kernel_rows=8)
    decode = ranks_phases(record)[1]
    shape = PassShape(new_tokens=1, context_tokens=513, kv_dtype="fp8", tensor_parallel=2)
    ops = [op for op in model_ops(decode.arch, shape, record.kept) if op.kind != "collective"]
    work_s = sum(op.count * predict_op(op, rates_of_op(op, RATES)).time_s for op in ops)
    assert decode.predicted_split is not None
    assert decode.predicted_split.compute_s == pytest.approx(work_s)
    assert work_s < 0.7 * sum(
        op.count * predict_op(op, rates_of_op(op, RATES)).time_s
        for op in forward_ops(decode.arch, PassShape(new_tokens=1, context_tokens=513, tensor_parallel=2))
        if op.kind != "collective"
    )


def test_each_collective_costs_its_rank_what_was_seen_beside_the_rows(prefill: RanksPhase) -> None:
    run = sample_run(resuming_s=1e-3)
    split, plain = ranks_phases(sample_record(ranks=run))[0].predicted_split, prefill.predicted_split
    assert split is not None
    assert plain is not None
    sends = 2 * prefill.arch.n_layers + 2
    assert split.compute_s - plain.compute_s == pytest.approx(1e-3 * sends)
    assert split.waiting_s == pytest.approx(WAITING_SHARE * split.compute_s)


def test_one_rank_waits_for_nobody(prefill: RanksPhase) -> None:
    alone, two = prefill.scaling[:2]
    ops = forward_ops(prefill.arch, PassShape(new_tokens=512))
    assert alone.predicted_s == pytest.approx(
        sum(op.count * predict_op(op, rates_of_op(op, RATES)).time_s for op in ops)
    )
    assert (two.predicted_s, two.measured_s) == (prefill.predicted_s, prefill.measured_s)


def test_the_curve_has_what_fewer_ranks_took_and_what_other_ways_to_share_would_leave(prefill: RanksPhase) -> None:
    run = sample_run()
    four = [dataclasses.replace(one, ranks=4, passes_s=[0.1]) for one in run.passes]
    both = dataclasses.replace(run, ranks=4, passes=four, fewer=run.passes)
    curve = ranks_phases(sample_record(ranks=both))[0].scaling
    assert [(point.ranks, point.measured_s) for point in curve[1:]] == [(2, 0.15), (4, 0.1), (8, None)]
    gains = prefill.gains
    assert gains is not None
    two = prefill.scaling[1]
    assert (two.predicted_s or 0.0) - (two.overlap_s or 0.0) == pytest.approx(gains.overlap_saves_s)
    assert (two.predicted_s or 0.0) - (two.sequence_parallel_s or 0.0) == pytest.approx(gains.sequence_parallel_saves_s)
    assert (curve[0].sequence_parallel_s, curve[0].overlap_s) == (None, None)


def test_a_rank_alone_is_predicted_from_constants_of_a_process_alone(prefill: RanksPhase) -> None:
    slow = constants(classes={name: {**one, "t0_s": 1.0} for name, one in constants()["classes"].items()})
    alone = ranks_phases(sample_record(ranks=sample_run(), constants=slow))[0].scaling
    assert (alone[0].predicted_s or 0.0) > 10 * (prefill.scaling[0].predicted_s or 0.0)
    assert alone[1:] == prefill.scaling[1:]


def test_records_of_before_tell_of_no_waiting() -> None:
    data = sample_run().constants or {}
    run = sample_run()
    old = type(run)(**{**vars(run), "constants": {name: one for name, one in data.items() if name != "waiting_share"}})
    split = ranks_phases(sample_record(ranks=old))[0].predicted_split
    assert split is not None
    assert split.waiting_s == 0.0


def test_nothing_is_predicted_without_constants_of_every_class() -> None:
    run = sample_run(classes={})
    phase = ranks_phases(sample_record(ranks=run))[0]
    assert (phase.predicted_split, phase.predicted_s, phase.error, phase.gains) == (None, None, None, None)
    assert phase.interval_s is None
    assert phase.lacking == tuple(sorted({op.rate_class for op in forward_ops(phase.arch, PASS)}))


def test_the_class_without_constants_is_named() -> None:
    classes = {name: one for name, one in constants()["classes"].items() if name != "attention_prefill"}
    prefill, decode = ranks_phases(sample_record(ranks=sample_run(classes=classes)))
    assert (prefill.predicted_s, prefill.lacking) == (None, ("attention_prefill",))
    assert (decode.predicted_s is None, decode.lacking) == (False, ())


def test_the_interval_is_as_wide_as_the_calibration_is_poor(prefill: RanksPhase) -> None:
    poor = sample_run(grade={"name": "poor", "reasons": ["1 round"]})
    wide = ranks_phases(sample_record(ranks=poor))[0]
    bound_s = sum(op.count * predict_op(op, rates_of_op(op, RATES)).bound_s for op in forward_ops(wide.arch, PASS))
    for phase, spread in ((prefill, 0.06), (wide, 0.5)):
        assert phase.predicted_s is not None
        low_s, high_s = (phase.predicted_s * (1 + sign * spread) for sign in (-1, 1))
        assert phase.interval_s == pytest.approx((max(low_s, bound_s), high_s))
