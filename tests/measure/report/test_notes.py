from dataclasses import replace

import pytest
import torch

from llamalab.measure.report import notes as module
from llamalab.measure.report.notes import notes_of
from llamalab.records.phase_profile import Telemetry
from llamalab.records.roof import Roof
from tests.report.sample import sample_record

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    monkeypatch.setattr(module, "effective_cache_bytes", lambda device: 32 * 2**20)


@pytest.fixture
def record():
    return sample_record("7b")


def environment(record, **changes):
    return replace(record, environment=replace(record.environment, **changes))


def test_nothing_odd_no_note(record):
    assert notes_of(record, CPU) == []


def test_small_weights_stay_in_cache():
    (note,) = notes_of(sample_record("tiny", layers_measured=None), CPU)
    assert note.startswith("The weights that ran, 28.98 MiB, stay in the cache of 32.00 MiB:")


@pytest.mark.parametrize(("cache_mib", "words"), [
    (16, "28.98 MiB, stay to 55% at most in the cache of 16.00 MiB:"), (28, "stay to 97% at most in"), (14, None),
])  # fmt: skip
def test_weights_that_are_larger_than_the_cache_do_not_stay_in_it(monkeypatch, cache_mib, words):
    monkeypatch.setattr(module, "effective_cache_bytes", lambda device: cache_mib * 2**20)
    notes = notes_of(sample_record("tiny", layers_measured=None), CPU)
    assert words in notes[0] if words else notes == []


@pytest.mark.parametrize(("kind", "ours", "wide", "odd"), [
    ("gemm", 0.9e12, 1.0e12, True), ("gemm", 1.1e12, 1.0e12, False),
    ("stream", 4e9, 10e9, True), ("stream", 6e9, 10e9, False),
])  # fmt: skip
def test_a_narrow_type_slower_than_fp32_is_named_with_figures(record, kind, ours, wide, odd):
    roofs = [Roof(kind=kind, dtype="bf16", per_second=ours), Roof(kind=kind, dtype="fp32", per_second=wide)]
    notes = notes_of(replace(record, roofs=roofs), CPU)
    assert bool(notes) == odd
    assert all("bf16 is slow" in note and f"{kind} roof" in note for note in notes)


def test_untrusted_roofs_are_named(record):
    roof = Roof(kind="copy", dtype="bf16", per_second=1e10, trusted=False, reason="doubled work took 1.00 times")
    assert notes_of(replace(record, roofs=[roof]), CPU) == [
        "The copy roof for bf16 is not trusted: doubled work took 1.00 times."
    ]


def test_a_busy_host_is_named(record):
    (note,) = notes_of(environment(record, before=Telemetry(load_average=1.5)), CPU)
    assert "1.5 on 2 threads" in note


def test_throttling_before_or_after_is_named(record):
    throttled = environment(record, after=Telemetry(throttle_reasons=["software power cap"]))
    assert notes_of(throttled, CPU) == ["The device was throttled: software power cap."]
