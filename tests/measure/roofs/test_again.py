"""A roof that a pass was faster than is probed again, and raised to the best that was seen."""

import dataclasses

import torch

from llamalab.comparison.held_roofs import above
from llamalab.measure.roofs.again import TURNS, finders, hold_again
from tests.comparison.test_held_roofs import slower_roofs
from tests.report.sample import sample_record


def run(record, found):
    """Probe again with probes that find these rates in turn."""
    asked = []

    def find():
        asked.append("stream")
        return dataclasses.replace(record.roof("stream", record.dtype), per_second=found[len(asked) - 1])

    return hold_again(record, {"stream": find}), asked


def test_a_machine_that_was_busy_reaches_its_roof_at_the_second_try():
    sound = slower_roofs(sample_record("7b"), 100.0)
    high = sound.roof("stream", "bf16").per_second
    low = slower_roofs(sound, 1e-4, "stream")
    held, asked = run(low, [high])
    assert asked == ["stream"]
    assert (held.roof("stream", "bf16").per_second, held.roof("stream", "bf16").raised_by) == (high, None)


def test_what_no_probe_reaches_raises_the_roof_itself():
    low = slower_roofs(slower_roofs(sample_record("7b"), 100.0), 1e-5, "stream")
    probed = low.roof("stream", "bf16").per_second
    held, asked = run(low, [0.5 * probed, 1.5 * probed])
    roof = held.roof("stream", "bf16")
    assert asked == ["stream"] * TURNS
    assert (roof.probed_per_second, above(held)) == (1.5 * probed, [])
    assert roof.raised_by is not None


def test_a_probe_that_is_not_to_be_trusted_does_not_count():
    low = slower_roofs(slower_roofs(sample_record("7b"), 100.0), 1e-5, "stream")
    doubtful = dataclasses.replace(low.roof("stream", "bf16"), per_second=1e30, trusted=False, reason="noise")
    assert hold_again(low, {"stream": lambda: doubtful}).roof("stream", "bf16").per_second < 1e30


def test_nothing_is_probed_where_all_roofs_hold():
    record = slower_roofs(sample_record("7b"), 100.0)
    assert hold_again(record, {}) is record


def test_every_kind_that_can_be_exceeded_has_a_probe():
    record = sample_record("7b")
    assert {roof.kind for roof in record.roofs} - {"launch"} <= finders(record, torch.device("cpu")).keys()
