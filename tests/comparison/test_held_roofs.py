"""Roofs hold: what was faster than its roof is named and becomes the roof; nothing is above 100 %."""

import dataclasses

import pytest

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.held_roofs import above, hold_roofs, raised_sentence
from llamalab.comparison.sentences import verdict
from llamalab.records.record import Record
from llamalab.records.record_json import record_from_json, record_to_json
from llamalab.records.roof import Roof
from tests.report.sample import sample_record


@pytest.fixture(params=["7b", "tiny"])
def record(request: pytest.FixtureRequest) -> Record:
    return sample_record(request.param)


def slower_roofs(record: Record, share: float, *kinds: str) -> Record:
    """The same measurements beside roofs that were found on a busy machine."""
    roofs = [
        dataclasses.replace(roof, per_second=share * roof.per_second)
        if roof.per_second and (not kinds or roof.kind in kinds)
        else roof
        for roof in record.roofs
    ]
    return dataclasses.replace(record, roofs=roofs)


@pytest.mark.parametrize("share", [0.99, 0.5, 0.1, 1e-4])
def test_no_share_is_above_one_whatever_the_probes_found(record: Record, share: float) -> None:
    comparison = Comparison(slower_roofs(record, share))
    assert all((row.roof_fraction or 0.0) <= 1.0 for row in comparison.rows)
    assert all(one.limit is None or (one.limit.fraction or 0.0) <= 1.0 for one in comparison.phases)
    assert above(comparison.record) == []


def test_roofs_that_hold_are_left_alone(record: Record) -> None:
    high = slower_roofs(record, 100.0)
    assert above(high) == []
    assert hold_roofs(high) is high


def test_a_raised_roof_is_the_rate_of_what_raised_it_and_keeps_the_probes(record: Record) -> None:
    low = slower_roofs(record, 0.1)
    held = hold_roofs(low)
    for roof, before in zip(held.roofs, low.roofs, strict=True):
        if roof.raised_by is None:
            assert roof == before
        else:
            assert roof.probed_per_second == before.per_second
            assert roof.per_second > before.per_second
            assert raised_sentence(held, roof).startswith(roof.raised_by.removeprefix("layers.*."))
    assert hold_roofs(held) is held
    assert record_from_json(record_to_json(held)) == held


def test_a_second_raise_keeps_what_the_probes_found(record: Record) -> None:
    held = hold_roofs(slower_roofs(record, 0.1))
    again = hold_roofs(slower_roofs(held, 0.5))
    probed = [roof.probed_per_second for roof in held.roofs]
    assert [roof.probed_per_second for roof in again.roofs] == probed
    assert [roof.per_second for roof in again.roofs] == pytest.approx([roof.per_second for roof in held.roofs])


def test_only_the_roof_that_was_exceeded_is_raised(record: Record) -> None:
    held = hold_roofs(slower_roofs(slower_roofs(record, 100.0), 1e-4, "gemm"))
    assert {roof.kind for roof in held.roofs if roof.raised_by} == {"gemm"}


def test_an_untrusted_roof_is_not_made_one() -> None:
    record = slower_roofs(sample_record("7b"), 0.1)
    roofs = [dataclasses.replace(roof, trusted=False, reason="noise") for roof in record.roofs]
    assert hold_roofs(dataclasses.replace(record, roofs=roofs)).roofs == roofs


def test_the_verdict_names_it_and_says_why() -> None:
    comparison = Comparison(slower_roofs(sample_record("7b"), 0.1, "stream"))
    assert "The run was faster than the probes of a roof, and its rate is the roof now: " in (verdict(comparison).text)
    assert any("the machine was slower when its roofs were looked for" in sentence for sentence in comparison.raised)


def test_weights_from_a_cache_are_said_to_come_from_it() -> None:
    record = slower_roofs(sample_record("7b"), 0.1, "stream")
    cache = Roof(kind="cache", dtype="bf16", per_second=1e12, capacity_bytes=2**29)
    sentences = Comparison(dataclasses.replace(record, roofs=[*record.roofs, cache])).raised
    sentence = next(one for one in sentences if "stream roof" in one)
    assert "of its weights" in sentence
    assert "come from the cache of 512.00 MiB" in sentence
