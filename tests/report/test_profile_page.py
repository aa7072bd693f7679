"""Profiles on a page: their own and as a part of a report; every number told is one of theirs."""

import csv
import io
import re
from dataclasses import replace
from typing import Any

import pytest

from llamalab.arch import LlamaArch
from llamalab.formatting import format_seconds
from llamalab.records.phase_profile import Instrument, PhaseProfile, Telemetry, Usage
from llamalab.records.profile import Profile, are_profiles, profile_in, profiles_from_json, profiles_to_json
from llamalab.records.record import Record
from llamalab.records.record_json import record_to_json
from llamalab.report import OURS, profile_csv_files, render, render_profiles
from llamalab.report import profile_captions as findings
from llamalab.report import profile_tables as tables
from llamalab.report.charts.depth import pieces
from tests.report.sample import sample_record
from tests.report.sample_profile import sample_profile
from tests.report.test_report import HOSTILE, Page


@pytest.fixture(scope="module")
def profile(record: Record) -> Profile:
    return sample_profile(record)


@pytest.fixture(scope="module")
def other(profile: Profile) -> Profile:
    """The same model in transformers, which has rope, append and flash in one row and takes twice as long."""
    return replace(profile, kind="transformers", phases=[_merged(phase) for phase in profile.phases])


def _merged(phase: PhaseProfile) -> PhaseProfile:
    steps = [op for op in phase.ops if op.name.endswith((".rope", ".kv_append", ".flash"))]
    row = replace(
        steps[0], name="layers.*.attention.rope+kv_append+flash", time_s=2 * sum(op.time_s for op in steps),
        total_s=2 * sum(op.total_s for op in steps),
        layers_s=[2 * sum(times) for times in zip(*(op.layers_s for op in steps), strict=True)],
    )  # fmt: skip
    rest = [replace(op, time_s=2 * op.time_s) for op in phase.ops if op not in steps]
    return replace(phase, ops=[*rest, row])


def changed(profile: Profile, **changes: Any) -> Profile:
    return replace(profile, phases=[replace(phase, **changes) for phase in profile.phases])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_page_of_profiles_is_whole_and_comes_back(profile: Profile, other: Profile) -> None:
    html = render_profiles([profile, other])
    page = Page(html)
    assert page.open == []
    assert sum(tag == "svg" for tag, _ in page.elements) == 16
    assert len(page.values("id")) == len(set(page.values("id")))
    assert OURS in html[:2_000]
    raw = html.partition('id="record">')[2].partition("</script>")[0]
    assert profiles_from_json(raw) == [profile, other]
    assert render_profiles(profiles_from_json(profiles_to_json([profile, other]))) == html
    assert "profiled operation by operation: llamalab and transformers" in page.text()


def test_hostile_names_stay_text_there_too(profile: Profile) -> None:
    phase = profile.phases[0]
    ops = [replace(phase.ops[0], kernels=[HOSTILE]), *phase.ops[1:]]
    tools = [Instrument(name=HOSTILE, ratio=1.0, about=HOSTILE)]
    bad = replace(profile, model=HOSTILE, notes=[HOSTILE],
                  phases=[replace(phase, ops=ops, instruments=tools, outside=HOSTILE, kernel=HOSTILE,
                                  throttled=[HOSTILE], missing=HOSTILE)])  # fmt: skip
    html = render_profiles([bad])
    page = Page(html)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in Page(render_profiles([profile])).elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 4
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert page.text().count(HOSTILE) > 8


def test_bars_hold_all_the_time_of_what_ran(profile: Profile) -> None:
    for phase in profile.phases:
        parts = pieces(profile, phase)
        assert list(dict.fromkeys(part.bar for part in parts)) == ["embed", "0", "1", "head"]
        expected = sum(sum(op.layers_s) or op.time_s for op in phase.ops) + phase.outside_s
        assert sum(part.time_s for part in parts) == pytest.approx(expected)
        assert len(parts) == 2 * 9 + 4  # products, attention and what is elementwise; embedding, setup, norm, head


def test_many_blocks_are_split_by_group_and_lose_no_time() -> None:
    record = sample_record("7b", layers_measured=None)
    profile = sample_profile(record)
    parts = pieces(profile, profile.phases[0])
    assert len(parts) == 32 * 4 + 4  # and the embedding, what lies between, and the two of the head
    ops = profile.phases[0].ops
    assert sum(part.time_s for part in parts if part.bar == "31") == pytest.approx(
        sum(op.layers_s[31] for op in ops if op.layers_s)
    )
    assert len(render(record).encode()) <= 450_000


def test_eighty_blocks_fit_on_a_page() -> None:
    record = sample_record("70b", layers_measured=None)
    html = render(record)
    assert len(html.encode()) <= 450_000
    assert len(re.findall(r"<title>Q, K, V and output projections: [^<]* a block</title>", html)) == 2


def test_findings_are_told_from_the_numbers(profile: Profile) -> None:
    phase = profile.phases[0]
    assert "block 1 takes 9% longer" in findings.depth_finding(phase)
    even = [replace(op, layers_s=[op.time_s] * len(op.layers_s)) for op in phase.ops]
    assert "the blocks that ran take much the same time" in findings.depth_finding(replace(phase, ops=even))
    assert "Prefill peaks at 60.00 MiB above weights and cache in layers.0.feed_forward.w1" in (
        findings.peak_finding(phase)
    )
    assert "67% of it was made by layers.0.feed_forward.w1" in findings.peak_finding(phase)
    assert "Prefill is in kernels for 90% of its time" in findings.kernels_finding(phase)
    assert findings.observers_finding(phase) == (
        "In prefill a pass that is looked at takes 1.01x (op clock) to 1.30x (profiler) the time of a clean one."
    )
    assert "moved between 2.60 GHz and 2.90 GHz over 6 readings" in findings.device_finding(profile)
    assert "The process held up to 1.00 GiB after a phase and 1.50 GiB at its peak." in findings.device_finding(profile)
    (absent, energy) = findings.unknown(profile)
    assert absent.startswith("Not known: memory clock, power, temperature, throttling: not readable on a CPU")
    assert energy.startswith("Not known: energy of prefill, energy of decode: this system has no energy counter")
    assert findings.closing(replace(phase, missing="9% is missing")).endswith(
        "101% of a clean pass of what ran: 9% is missing."
    )


def test_a_cache_that_grows_is_no_error_of_the_prediction(profile: Profile) -> None:
    phase = profile.phases[0]
    holding = replace(phase.memory.at_peak[0], category="kv")
    memory = replace(phase.memory, at_peak=[holding, phase.memory.at_peak[1]])
    sentence = findings.peak_finding(replace(phase, memory=memory))
    assert "40.00 MiB of it a cache that grew in the pass" in sentence
    assert "for the rest predicted" in sentence


def test_a_throttled_phase_is_marked(profile: Profile) -> None:
    hot = Telemetry(clock_hz=10**9, power_w=700.0, temperature_c=88.0, throttle_reasons=["hw thermal slowdown"])
    marked = changed(profile, before=hot, during=hot, after=hot, throttled=["hw thermal slowdown"])
    assert "The device throttled during prefill (hw thermal slowdown) and decode" in findings.device_finding(marked)
    page = Page(render_profiles([marked])).text()
    assert "prefill, during: 700 W, throttled" in page
    assert "throttled: hw thermal slowdown" in page
    assert {row["throttled"] for row in rows(profile_csv_files([marked])["telemetry"])} == {"hw thermal slowdown"}
    cool = replace(hot, throttle_reasons=[])
    calm = changed(profile, before=cool, during=cool, after=cool, throttled=[])
    assert "It throttled at none of them." in findings.device_finding(calm)


def test_what_is_absent_says_so(profile: Profile) -> None:
    silent = Telemetry(missing={"clock_hz": "no such file"})
    memory = replace(profile.phases[0].memory, peak_bytes=None, timeline=[], at_peak=[], steps=[], reason="no event")
    usage = Usage(resident_bytes=None, peak_resident_bytes=None, device_bytes_by_process=None, missing={})
    bare = changed(
        profile, before=silent, during=None, after=silent, memory=memory, instruments=[], usage=usage, kernel=None,
        ops=[replace(op, device_s=None, gap_s=None, kernels=[]) for op in profile.phases[0].ops],
    )  # fmt: skip
    page = Page(render_profiles([bare]))
    text = page.text()
    assert sum(tag == "svg" for tag, _ in page.elements) == 4  # two of the depth, two flame views
    for words in ("not measured: no event", "not measured: the system tells nothing", "the profiler saw no kernel",
                  "no instrument was held", "Not known: clock: no such file",
                  "The system tells nothing of the device's state."):  # fmt: skip
        assert words in text


def test_operations_stand_side_by_side_with_their_steps_added_up(profile: Profile, other: Profile) -> None:
    table = tables.side_by_side_table([profile, other])
    assert [column.title for column in table.columns] == [
        "phase", "operation", "llamalab", "transformers", "transformers over llamalab"
    ]  # fmt: skip
    assert len(table.rows) == 2 * (len(profile.phases[0].ops) - 2)
    assert all(row["ratio"] == pytest.approx(2) for row in table.rows)
    alone = tables.side_by_side_table([profile, replace(other, phases=other.phases[:1])])
    assert {row["ratio"] for row in alone.rows if row["phase"] == "decode"} == {None}


def test_csv_has_every_operation_of_every_phase(profile: Profile) -> None:
    found = rows(profile_csv_files([profile])["kernels"])
    assert [(row["phase"], row["name"]) for row in found] == [
        (phase.phase, op.name) for phase in profile.phases for op in phase.ops
    ]
    assert "kind" not in found[0]
    first = rows(profile_csv_files([profile])["layers"])[2]
    own = profile.phases[0].ops[2].layers_s
    assert [float(one) for one in first["layers_s"].split()] == pytest.approx(own, rel=1e-3)
    assert format_seconds(max(own)) in render_profiles([profile])


def test_a_record_without_a_profile_has_none(record: Record) -> None:
    assert profile_in(replace(record, profile=None)) is None
    assert not are_profiles(record_to_json(record))
    arch = LlamaArch(**sample_profile(record).arch)
    assert arch == record.llama_arch
