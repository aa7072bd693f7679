"""Runs held against each other: deltas add up, noise is told from differences, and each has its cause."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from llamalab.comparison.own_runs import run_of_record
from llamalab.comparison.run_deltas import REST, PhaseDelta, bootstrap, compare_runs, differing, unmatched
from llamalab.comparison.run_files import read_runs
from llamalab.records.record import Pass, Record
from llamalab.records.record_json import record_from_json
from llamalab.records.run import OpTime, Run, RunPhase

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example-7b-cpu.json"


@pytest.fixture(scope="module")
def record() -> Record:
    return record_from_json(EXAMPLE.read_text())


def noisy(seed: int, median_s: float, spread: float = 0.03, rounds: int = 20) -> tuple[float, ...]:
    draw = random.Random(seed)
    return tuple(median_s * draw.gauss(1.0, spread) for _ in range(rounds))


def phase(ops: tuple[OpTime, ...], total_s: float, **others: object) -> Run:
    given = {"name": "decode", "kind": "decode", "total_s": total_s, "ops": ops, "batch": 1, "new_tokens": 1}
    return Run("run", "llamalab", (RunPhase(**given | others),), {}, device="cpu")  # type: ignore[arg-type]


def only(a: Run, b: Run) -> PhaseDelta:
    (found,) = compare_runs(a, b)
    return found


def test_rows_add_up_to_the_whole_and_are_sorted(record: Record) -> None:
    a = run_of_record(record, "a")
    slow = replace(record, passes=[slowed(one, "layers.*.feed_forward.w2", 1.5) for one in record.passes])
    b = run_of_record(slow, "b")
    for found in compare_runs(a, b):
        assert sum(row.delta_s for row in found.rows) == pytest.approx(found.whole.delta_s, abs=1e-12)
        deltas = [abs(row.delta_s) for row in found.rows]
        assert deltas == sorted(deltas, reverse=True)
        assert found.rows[0].op in ("layers.*.feed_forward.w2", REST)
        w2 = next(row for row in found.rows if row.op == "layers.*.feed_forward.w2")
        assert w2.why == "lower efficiency: the same work at 0.67 × the rate"
        assert sum(row.share for row in found.rows) == pytest.approx(1.0)


def slowed(one: Pass, name: str, factor: float) -> Pass:
    ops = [
        replace(row, samples_s=[factor * sample for sample in row.samples_s]) if row.name == name else row
        for row in one.ops
    ]
    return replace(one, ops=ops)


def test_a_run_against_itself_shows_nothing(record: Record) -> None:
    run = run_of_record(record, "a")
    for found in compare_runs(run, run):
        assert found.whole.delta_s == 0
        assert all(row.delta_s == 0 for row in found.rows)
        assert {row.why for row in found.rows if row.interval_s} == {"no difference seen"}


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_difference(seed: int) -> None:
    a, b = noisy(seed, 1.0), noisy(1000 + seed, 1.0)
    interval = bootstrap(a, b, 1.0, 1.0)
    assert interval is not None
    assert interval[0] < 0.05
    assert interval[1] > -0.05


def test_noise_is_mistaken_about_as_often_as_promised() -> None:
    wrong = 0
    for seed in range(60):
        a, b = noisy(seed, 1.0), noisy(1000 + seed, 1.0)
        from statistics import median

        low, high = bootstrap(a, b, median(a), median(b)) or (0.0, 0.0)
        wrong += not low <= 0 <= high
    assert wrong <= 8


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_more_time_is_seen_through_the_noise(seed: int) -> None:
    a, b = noisy(seed, 1.0), noisy(1000 + seed, 1.1)
    interval = bootstrap(a, b, 1.0, 1.1)
    assert interval is not None
    assert interval[0] > 0


def test_few_samples_are_not_judged() -> None:
    assert bootstrap([1.0] * 3, [2.0] * 9, 1.0, 2.0) is None
    found = only(phase((), 1.0, samples_s=(1.0,)), phase((), 2.0, samples_s=(2.0,)))
    assert found.whole.seen is None


BASE = OpTime("mlp", 1.0, noisy(1, 1.0), 1000, 1000, "gemm_a", 0.1)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (BASE._replace(total_s=2.0, samples_s=noisy(2, 2.0), flops=2000, bytes=1100), "more work: 2.00 × the FLOPs"),
        (BASE._replace(total_s=0.5, samples_s=noisy(2, 0.5), flops=500, bytes=500), "less work: 0.50 × the FLOPs"),
        (BASE._replace(total_s=2.0, samples_s=noisy(2, 2.0), kernel="gemm_b"), "another kernel: gemm_b for gemm_a"),
        (BASE._replace(total_s=2.0, samples_s=noisy(2, 2.0), gap_s=1.0), "launch gaps: the time between kernels"),
        (BASE._replace(total_s=2.0, samples_s=noisy(2, 2.0)), "lower efficiency: the same work at 0.50 × the rate"),
        (BASE._replace(total_s=0.5, samples_s=noisy(2, 0.5)), "higher efficiency: the same work at 2.00 × the rate"),
        (BASE._replace(samples_s=noisy(7, 1.0)), "no difference seen"),
    ],
)
def test_a_difference_has_its_cause(other: OpTime, why: str) -> None:
    found = only(phase((BASE,), 1.0), phase((other,), other.total_s))
    assert next(row for row in found.rows if row.op == "mlp").why == why


def test_another_clock_and_another_device_are_causes() -> None:
    slow = BASE._replace(total_s=2.0, samples_s=noisy(2, 2.0))
    found = only(phase((BASE,), 1.0, clock_hz=1_980_000_000), phase((slow,), 2.0, clock_hz=990_000_000))
    assert found.rows[0].why == "another clock: 990 MHz for 1,980 MHz"
    elsewhere = phase((slow,), 2.0)._replace(device="gpu")
    assert only(phase((BASE,), 1.0), elsewhere).rows[0].why.startswith("another device: the same work at 0.50")


def test_an_operation_of_one_run_only_is_a_row_too() -> None:
    found = only(phase((BASE,), 1.0), phase((BASE._replace(name="fused"),), 1.5))
    assert {row.op: row.why for row in found.rows if row.op != REST} == {"mlp": "only in A", "fused": "only in B"}
    assert sum(row.delta_s for row in found.rows) == pytest.approx(0.5)


def test_phases_match_by_name_and_then_by_kind() -> None:
    a, b = phase((), 1.0), phase((), 2.0, name="tg128")
    assert only(a, b).whole.delta_s == 1.0
    assert unmatched(a, b) == []
    many = b._replace(phases=(*b.phases, *phase((), 3.0, name="tg128 @ d4096").phases))
    assert compare_runs(a, many) == ()
    assert unmatched(a, many) == ["decode", "tg128", "tg128 @ d4096"]


def test_other_work_of_a_phase_is_named_and_settings_that_differ() -> None:
    found = only(phase((), 1.0), phase((), 2.0, batch=4))
    assert found.whole.why == "other work: batch 1 and 4"
    a, b = (Run("x", "t", (), {"torch": version, "threads": 2}, device="cpu") for version in ("2.11", "2.13"))
    assert differing(a, b) == {"torch": ("2.11", "2.13")}


def test_a_page_a_record_and_a_profile_are_runs(tmp_path: Path) -> None:
    page = EXAMPLE.with_suffix(".html")
    assert [one.total_s for one in read_runs(page)[0].phases] == [one.total_s for one in read_runs(EXAMPLE)[0].phases]
