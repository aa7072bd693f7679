"""One number for a fact: every amount in the words of a page is one that the record, or its prediction, has."""

import dataclasses
import re
from collections.abc import Iterator
from statistics import median

import pytest

from llamalab.comparison.claims import coverage, memory_held, phase_held, wrong_winners
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import verdict
from llamalab.comparison.what_if import actions, as_measured, elsewhere, predicted_workload, run_s
from llamalab.comparison.wording import signed_percent, tokens_per_s
from llamalab.formatting import format_bytes, format_seconds
from llamalab.hardware import WIDELY_USED
from llamalab.records.record import MeasuredMemory, Record
from llamalab.report import render
from llamalab.report.llama_2_section import llama_2_tables
from tests.report.sample import sample_record
from tests.report.test_prospects import calibrated

WORDS = re.compile(r'<(p|li|dd)(?: class="(?:headline|finding|remark|figure|label)")?>(.*?)</\1>', re.DOTALL)
TIME = re.compile(r"(?<![\w.,])(?:\d+ (?:h|min) )?\d[\d,]*(?:\.\d+)? (?:s|ms|µs|ns)\b")
BYTES = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)? (?:TiB|GiB|MiB|KiB)\b")
RATE = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)? tok/s")
PERCENT = re.compile(r"(?<![\w.,])[+−]\d+(?:\.\d+)?%")


@pytest.fixture(scope="module", params=["roofs", "calibrated", "tiny", "70b"])
def told(request: pytest.FixtureRequest) -> Record:
    """Records of several kinds; the operations of one take longer than its clean passes."""
    if request.param == "roofs":
        record = sample_record()
        slow = [dataclasses.replace(op, samples_s=[1.3 * one for one in op.samples_s]) for op in record.passes[0].ops]
        return dataclasses.replace(record, passes=[dataclasses.replace(record.passes[0], ops=slow), *record.passes[1:]])
    return calibrated(sample_record()) if request.param == "calibrated" else sample_record(request.param)


def words(html: str) -> str:
    """The sentences, cards and captions of a page, without its tables, plots, formulas and other machines' results."""
    body = html.partition('<section id="settings"')
    body = body[0] + body[2].partition("</section>")[2]
    body = re.sub(r'<section id="(?:appendix|provenance)".*?</section>', "", body, flags=re.DOTALL)
    body = re.sub(r"<(svg|table|nav|script|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]) for found in WORDS.findall(body))


def seconds_of(record: Record, comparison: Comparison) -> Iterator[float]:
    """Every time that a page may speak of, the measured ones from the samples."""
    for run in record.passes:
        yield sum(median(part.samples_s) * part.count for part in run.parts)
        yield from (median(one.samples_s) for one in (*run.parts, *run.ops))
    yield from (median(point.samples_s) for point in record.attention if point.samples_s)
    for phase in comparison.phases:
        yield from (phase.predicted_s or 0.0, *(phase.interval_s or ()))
        yield from (row.predicted_s or 0.0 for row in phase.rows)
        yield from (part[1] or 0.0 for part in phase.parts)
    yield from (row.predicted_s or 0.0 for row in comparison.attention)
    rows = elsewhere(comparison.arch, predicted_workload(comparison), names=WIDELY_USED)
    yield from (row.times.total_s for row in rows if row.times)
    yield run_s(comparison.basis, comparison.arch, predicted_workload(comparison), as_measured(comparison)) or 0.0
    for one in actions(comparison, rows):
        yield from (one.saved_s, one.total_s)
    for table in llama_2_tables(comparison).values():
        yield from (row[key] for row in table.rows for key in ("prefill_s", "decode_s") if row[key])


def bytes_of(record: Record, comparison: Comparison) -> Iterator[int]:
    """Every amount of memory that a page may speak of."""
    yield from (record.environment.memory_bytes, comparison.weight_bytes, comparison.kv_bytes_per_token)
    yield from (cell.kv_bytes for cell in comparison.kv_cells)
    for table in llama_2_tables(comparison).values():
        yield from (row["kv_bytes"] for row in table.rows)
    for phase in comparison.phases:
        yield from (phase.run.memory.peak_bytes or 0, phase.predicted_memory.bytes)
    yield from (roof.capacity_bytes or 0 for roof in record.roofs)
    for profiled in record.profile or ():
        yield from (profiled.usage.resident_bytes or 0, profiled.usage.peak_resident_bytes or 0)


def test_every_amount_in_words_is_one_that_the_record_has(told: Record) -> None:
    comparison, text = Comparison(told), words(render(told))
    for point in told.attention:  # what a backend said of itself is no fact of the page
        text = text.replace(point.reason or "no reason", "")
    known_s = {format_seconds(value) for value in seconds_of(told, comparison)}
    assert len(TIME.findall(text)) > 8
    assert set(TIME.findall(text)) - known_s == set()
    assert set(BYTES.findall(text)) - {format_bytes(value) for value in bytes_of(told, comparison)} == set()
    rates = {tokens_per_s(value) for phase in comparison.phases
             for value in (phase.measured_tokens_per_s, phase.predicted_tokens_per_s) if value}  # fmt: skip
    assert set(RATE.findall(text)) - rates == set()
    errors = [phase.error for phase in comparison.phases] + [row.error for row in comparison.rows]
    errors += [measured and predicted and predicted / measured - 1
               for phase in comparison.phases for _, predicted, measured in phase.parts]  # fmt: skip
    errors += [phase.predicted_memory.bytes / phase.run.memory.peak_bytes - 1 for phase in comparison.phases
               if phase.run.memory.peak_bytes]  # fmt: skip
    assert set(PERCENT.findall(text)) - {signed_percent(one) for one in errors if one is not None} == set()


def test_a_block_has_one_time_in_words_and_bars(told: Record) -> None:
    html = render(told)
    for run in told.passes:
        block = format_seconds(median(run.part("block").samples_s))
        said = re.findall(rf"In {run.phase}, [^;]*; a block takes ([\d.,]+ \S+)", words(html))
        assert said == [block]
        bars = html[html.index('id="blocks"') :].partition("</svg>")[0 if run.phase == "prefill" else 2]
        assert f">{block}</text>" in bars.partition("</svg>")[0]


def test_what_failed_stands_first_and_is_called_failed(record: Record) -> None:
    slow = dataclasses.replace(record.passes[1], parts=[
        dataclasses.replace(part, samples_s=[3 * one for one in part.samples_s]) for part in record.passes[1].parts
    ])  # fmt: skip
    wide = dataclasses.replace(record.passes[0], memory=MeasuredMemory(peak_bytes=2**30, method="allocator"))
    naive = [
        dataclasses.replace(
            point, samples_s=[one / (100 if point.algorithm == "naive" else 1) for one in point.samples_s]
        )
        for point in record.attention
    ]
    changed = dataclasses.replace(record, passes=[wide, slow], attention=naive)
    comparison = Comparison(changed)
    assert [phase_held(phase) for phase in comparison.phases] == [True, False]
    assert [memory_held(phase) for phase in comparison.phases] == [False, True]
    lost = wrong_winners(comparison)
    assert {(one.predicted, one.measured) for one in lost} == {("sdpa", "naive")}
    failed = verdict(comparison).failures
    assert len(failed) == 3
    assert failed[0].startswith("Decode is ")
    assert f"at {lost[-1].tokens:,} tokens" in failed[1]
    assert failed[2].startswith("Activations of prefill peak at 1.00 GiB")
    html = render(changed)
    first = html.index("Predictions that failed")
    assert first < html.index("What was found") < html.index('id="predicted"')
    assert verdict(comparison).text.splitlines()[1] == f"Failed: {failed[0]}"


def test_nothing_failed_is_nothing_said(record: Record) -> None:
    right = [
        dataclasses.replace(point, samples_s=[row.predicted_s] * 3) if row.predicted_s and point.samples_s else point
        for point, row in zip(record.attention, Comparison(record).attention, strict=True)
    ]
    clean = dataclasses.replace(record, attention=right)
    assert wrong_winners(Comparison(clean)) == []
    if not verdict(Comparison(clean)).failures:
        assert "Predictions that failed" not in render(clean)


def test_intervals_that_hold_too_few_are_a_failure(record: Record) -> None:
    comparison = Comparison(calibrated(record))
    held = coverage(comparison)
    assert held is not None
    inside = [row for row in comparison.rows if row.interval_s and row.measured_s and not row.outside
              and row.interval_s[0] <= row.measured_s <= row.interval_s[1]]  # fmt: skip
    assert held.inside == len(inside)
    assert (f"{held.inside} of {held.of} operations lie in the interval" in verdict(comparison).text) == (not held.held)
    assert coverage(Comparison(record)) is None
