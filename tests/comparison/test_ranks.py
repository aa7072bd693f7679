"""Passes on several ranks against what the ranks' own constants predict."""

import pytest

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import predict_op, rates_of_op
from llamalab.comparison.ranks import RanksPhase, ranks_phases
from tests.report.sample import sample_record
from tests.report.sample_ranks import RATES, WAITING_SHARE, sample_run


@pytest.fixture(scope="module")
def prefill() -> RanksPhase:
    return ranks_phases(sample_record(ranks=sample_run()))[0]


def test_a_pass_is_its_own_work_what_it_sends_and_a_share_of_its_work_in_waiting(prefill: RanksPhase) -> None:
    ops = forward_ops(prefill.arch, PassShape(new_tokens=512, tensor_parallel=2))
    times = [(op.kind == "collective", op.count * predict_op(op, rates_of_op(op, RATES)).time_s) for op in ops]
    work_s, sent_s = (sum(seconds for sends, seconds in times if sends is which) for which in (False, True))
    split = prefill.predicted_split
    assert split is not None
    assert (split.compute_s, split.communication_s) == pytest.approx((work_s, sent_s))
    assert split.waiting_s == pytest.approx(WAITING_SHARE * work_s)
    assert prefill.predicted_s == pytest.approx((1 + WAITING_SHARE) * work_s + sent_s)
    assert prefill.error == pytest.approx((prefill.predicted_s or 0.0) / 0.15 - 1)


def test_one_rank_waits_for_nobody(prefill: RanksPhase) -> None:
    alone, two = prefill.scaling[:2]
    ops = forward_ops(prefill.arch, PassShape(new_tokens=512))
    assert alone.predicted_s == pytest.approx(
        sum(op.count * predict_op(op, rates_of_op(op, RATES)).time_s for op in ops)
    )
    assert (two.predicted_s, two.measured_s) == (prefill.predicted_s, prefill.measured_s)


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
