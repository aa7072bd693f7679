"""What other devices and other ways to run would change: sorted, by prediction, each told by itself."""

import dataclasses

import pytest

from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import forecast
from llamalab.comparison import what_if as outlook
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.what_if import BATCH, GENERATED, as_measured, changes, elsewhere, predicted_workload, run_s
from llamalab.hardware import HARDWARE
from llamalab.records.record import Record
from tests.report.sample import sample_record


@pytest.fixture(scope="module")
def record() -> Record:
    return sample_record()


@pytest.fixture(scope="module")
def comparison(record: Record) -> Comparison:
    return Comparison(record)


def test_the_run_is_the_measured_prompt_and_some_tokens(comparison: Comparison) -> None:
    work = predicted_workload(comparison)
    assert (work.prompt, work.generate, work.batch, work.dtype) == (512, GENERATED, 1, "bf16")


def test_every_device_of_the_table_is_told_once_the_fastest_first(comparison: Comparison) -> None:
    work = predicted_workload(comparison)
    rows = elsewhere(comparison.arch, work)
    assert sorted(row.spec.name for row in rows) == sorted(HARDWARE)
    known = [row.times.total_s for row in rows if row.times]
    assert known == sorted(known)
    best = rows[0]
    expected = forecast(comparison.arch, work, best.spec, choose(best.spec, "shipped", "bf16"))
    assert (best.times, best.interval_s, best.ranks) == (expected.times, expected.interval, 1)
    old = next(row for row in rows if row.spec.name == "v100-32gb")
    assert old.basis.endswith("in fp16")
    small = next(row for row in rows if row.spec.name == "t4-16gb")
    assert (small.ranks or 1) >= 1


def test_a_model_that_fits_no_device_alone_takes_as_few_as_hold_it() -> None:
    comparison = Comparison(sample_record("70b"))
    rows = {row.spec.name: row for row in elsewhere(comparison.arch, predicted_workload(comparison))}
    assert rows["a100-80gb-sxm"].ranks == 2
    assert rows["mi300x-192gb"].ranks == 1
    assert rows["rtx4060-8gb"].times is None
    assert rows["rtx4060-8gb"].reason == "does not fit on 8"
    assert rows["apple-m1max-64gb"].reason is not None  # one of them does not hold it, and there is no link to two


def test_a_stack_can_be_named_for_the_other_devices() -> None:
    comparison = Comparison(sample_record("7b"))
    rows = {row.spec.name: row for row in elsewhere(comparison.arch, predicted_workload(comparison), "vllm")}
    assert rows["h100-80gb-sxm"].basis.startswith("stack vllm")
    assert "vllm must have constants for apple" in str(rows["apple-m1max-64gb"].reason)
    assumed = {row.spec.name: row for row in elsewhere(comparison.arch, predicted_workload(comparison))}
    assert assumed["rtx4090-24gb"].basis.startswith("stack llama.cpp")
    assert assumed["h100-80gb-sxm"].basis == "shipped"


def test_changes_are_sorted_by_what_they_save(comparison: Comparison) -> None:
    found = changes(comparison)
    savings = [one.saved_s for one in found]
    assert savings == sorted(savings, reverse=True)
    assert min(savings) > 0
    names = {one.what for one in found}
    assert {"int4 weights", "int8 weights", "fp8 KV cache", f"batch of {BATCH}", "GQA-8, 8 KV heads"} <= names
    assert "flash in place of naive attention" not in names
    now_s = run_s(comparison.basis, comparison.arch, predicted_workload(comparison), as_measured(comparison))
    assert now_s
    assert all(one.saved_s + one.total_s == pytest.approx(now_s) for one in found)
    assert all(0 < one.share < 1 for one in found)


def test_less_is_stored_more_is_saved(comparison: Comparison) -> None:
    saved = {one.what: one.saved_s for one in changes(comparison)}
    assert saved["int4 weights"] > saved["int8 weights"]


def test_naive_attention_is_told_to_go(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "LEAST_SAVING", 0.0)  # at 512 tokens it is little of the run
    naive = [dataclasses.replace(one, algorithm="naive", attention="naive") for one in record.passes]
    fast = [dataclasses.replace(one, per_second=1e14) if one.kind == "attention" else one for one in record.roofs]
    found = changes(Comparison(dataclasses.replace(record, passes=naive, roofs=fast)))
    assert "flash in place of naive attention" in {one.what for one in found}


def test_a_model_with_gqa_is_not_told_to_have_it() -> None:
    assert not [one for one in changes(Comparison(sample_record("70b"))) if "KV heads" in one.what]


def test_nothing_is_told_that_cannot_be_predicted(record: Record) -> None:
    assert changes(Comparison(dataclasses.replace(record, roofs=[]))) == []
