"""The join: by name, with the error in the open, and nothing said that is not known."""

import dataclasses
import json

import pytest

from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.roofline import Rates, predict_op, predict_pass, rates_of_op, total_s
from llamalab.comparison.basis import OWN_ROOFS, rates_of
from llamalab.comparison.comparison import Comparison, ExactCheck
from llamalab.comparison.held_roofs import hold_roofs
from llamalab.comparison.passes import Phase
from llamalab.comparison.sentences import verdict
from llamalab.comparison.what_if import changes
from llamalab.errors import InputError
from llamalab.records.record import Measurement, Record
from llamalab.records.roof import Roof
from llamalab.report import render
from tests.report.sample import ATTENTION, COPY, GEMM, LAUNCH, STREAM, environment, roofs, sample_record


@pytest.fixture(scope="module")
def record() -> Record:
    return sample_record()


@pytest.fixture(scope="module")
def comparison(record: Record) -> Comparison:
    return Comparison(record)


def phase(record: Record, name: str = "prefill") -> Phase:
    return next(one for one in Comparison(record).phases if one.run.phase == name)


def with_op(record: Record, name: str, seconds: float | None) -> Record:
    """The record with one op of the prefill at another time, or gone."""
    first, *rest = record.passes
    ops = [one for one in first.ops if one.name != name]
    if seconds is not None:
        ops.append(Measurement(name=name, samples_s=[seconds]))
    return dataclasses.replace(record, passes=[dataclasses.replace(first, ops=ops), *rest])


def test_every_row_of_the_cost_table_meets_its_measurement(comparison: Comparison) -> None:
    for one in comparison.phases:
        assert [row.op.name for row in one.rows] == [op.name for op in one.ops]
        assert all(row.measurement and row.measurement.name == row.op.name for row in one.rows)
        assert one.unmatched == []


def test_error_is_of_the_median_and_signed(record: Record) -> None:
    row = phase(record).rows[2]
    assert row.predicted_s
    slow = with_op(record, row.op.name, 2 * row.predicted_s)
    (changed,) = [one for one in phase(slow).rows if one.op.name == row.op.name]
    assert changed.error == pytest.approx(-0.5)
    assert changed.roof_fraction is not None
    assert changed.roof_fraction < 1


def test_pass_is_predicted_from_its_ops_and_measured_from_its_clean_parts(record: Record) -> None:
    one = phase(record, "decode")
    rates = {op.name: rates_of(hold_roofs(record), op, "bf16") for op in one.ops}
    predictions = {op.name: predict_pass((op,), {op.kind: rates[op.name]})[op.name] for op in one.ops}  # type: ignore[dict-item]
    assert one.predicted_s == pytest.approx(total_s(one.ops, predictions), rel=1e-12)
    parts = {part.name: part.median_s for part in record.passes[1].parts}
    assert one.measured_s == pytest.approx(parts["embedding"] + 32 * parts["block"] + parts["head"], rel=1e-12)
    assert one.measured_tokens_per_s == pytest.approx(1 / one.measured_s)
    assert one.error == pytest.approx(one.predicted_s / one.measured_s - 1)


def test_parts_add_up_to_the_pass(record: Record) -> None:
    one = phase(record)
    counts = {"embedding": 1, "block": 32, "head": 1}
    assert sum(counts[name] * (predicted or 0.0) for name, predicted, _ in one.parts) == pytest.approx(one.predicted_s)


def test_prefill_is_bound_by_compute_and_decode_by_memory(comparison: Comparison) -> None:
    prefill, decode = (one.limit for one in comparison.phases)
    assert prefill
    assert decode
    assert (prefill.name, decode.name) == ("compute", "memory")
    assert 0.5 < (prefill.fraction or 0.0) < 1.0
    assert 0.5 < (decode.fraction or 0.0) < 1.0


def test_a_slow_launch_is_a_bound_of_its_own(record: Record) -> None:
    slow = [roof if roof.kind != "launch" else dataclasses.replace(roof, seconds=1.0) for roof in record.roofs]
    limit = phase(dataclasses.replace(record, roofs=slow)).limit
    assert limit
    assert (limit.name, limit.fraction) == ("latency", None)


def test_faster_than_its_roof_is_the_roof_and_named(record: Record) -> None:
    high = [dataclasses.replace(roof, per_second=2 * roof.per_second) for roof in record.roofs if roof.per_second]
    record = dataclasses.replace(record, roofs=[*high, *(roof for roof in record.roofs if not roof.per_second)])
    row = phase(record).rows[2]
    assert row.prediction
    for share, raised in ((1.05, False), (0.8, True), (0.01, True)):
        fast = Comparison(with_op(record, row.op.name, share * row.prediction.bound_s))
        assert all((one.roof_fraction or 0.0) <= 1.0 for one in fast.rows)
        assert any(sentence.startswith("attention.wq in") for sentence in fast.raised) is raised


def test_missing_measurement_is_null_with_a_reason(record: Record) -> None:
    gone = phase(with_op(record, "layers.*.attention.wq", None))
    (row,) = [one for one in gone.rows if one.op.name == "layers.*.attention.wq"]
    assert (row.measured_s, row.error, row.roof_fraction) == (None, None, None)
    assert row.reason == "not measured: the op-by-op pass has no such row"
    assert gone.predicted_s == phase(record).predicted_s


def test_missing_roof_leaves_the_pass_unpredicted(record: Record) -> None:
    bare = dataclasses.replace(record, roofs=[roof for roof in record.roofs if roof.kind != "copy"])
    one = phase(bare)
    assert (one.predicted_s, one.error, one.limit, one.predicted_tokens_per_s) == (None, None, None, None)
    assert one.reason == "not predicted: there is no copy roof for bf16"
    assert one.measured_s == phase(record).measured_s
    assert {name: predicted for name, predicted, _ in one.parts}["block"] is None


def test_name_that_no_table_has_is_told(record: Record) -> None:
    assert phase(with_op(record, "layers.*.attention.wqkv", 1.0)).unmatched == ["layers.*.attention.wqkv"]


def test_errors_are_those_of_the_rows(comparison: Comparison) -> None:
    every = sorted(abs(row.error) for row in comparison.rows if row.error is not None)
    errors = comparison.errors
    assert errors
    assert (errors.rows, len(every)) == (36, 36)
    assert errors.median == pytest.approx((every[17] + every[18]) / 2)
    assert errors.p90 == every[32]  # the 33rd of 36 is the first that nine in ten do not exceed
    assert abs(errors.worst.error or 0.0) == every[-1]


def test_no_errors_without_rows(record: Record) -> None:
    assert Comparison(dataclasses.replace(record, roofs=[])).errors is None


def test_checks_are_exact(record: Record) -> None:
    comparison = Comparison(record)
    assert comparison.parameters == ExactCheck(6_738_415_616, 6_738_415_616)
    assert comparison.kv == ExactCheck(513 * 524_288, 513 * 524_288)
    wrong = Comparison(dataclasses.replace(record, parameters_measured=6_738_415_615, kv_bytes_measured=0))
    assert not wrong.parameters.exact
    assert not wrong.kv.exact


@pytest.mark.parametrize(("memory_bytes", "batch"), [(24 * 2**30, 5), (13_476_831_232 + 2**31, 1), (2**30, 0)])
def test_largest_batch(record: Record, memory_bytes: int, batch: int) -> None:
    small = dataclasses.replace(record, environment=environment(memory_bytes=memory_bytes))
    assert Comparison(small).fits(4096) == batch


def test_attention_points_meet_their_predictions(comparison: Comparison) -> None:
    rows = {(row.point.backend, row.point.new_tokens): row for row in comparison.attention}
    assert rows["naive", 4096].measured_s is None
    assert rows["naive", 4096].error is None
    assert rows["naive", 4096].predicted_s
    assert rows["sdpa", 4096].predicted_s == pytest.approx(4 * 32 * 128 * (4096 * 4097 // 2) / 0.41e12 + LAUNCH)
    assert rows["naive", 2048].predicted_bytes == 32 * 2048**2 * 4
    assert rows["tiled", 1024].predicted_s is None
    assert rows["tiled", 1024].reason == "the roof of attention is that of sdpa, which the model runs"


CALIBRATED = {
    "gemm": Rates(2 * GEMM, 2 * STREAM, 1e-5, 0.25, 0.2, 2.0), "gather": Rates(None, COPY),
    "elementwise": Rates(None, COPY, 1e-6, 1.0, 0.5, 1.0), "attention_prefill": Rates(ATTENTION, STREAM),
    "attention_decode": Rates(ATTENTION, STREAM),
}  # fmt: skip


def calibrated(record: Record, **changes: object) -> Record:
    text = constants_to_json("cpu", "bf16", "2026-01-02", CALIBRATED, {"prefill_error": 0.04, "decode_error": 0.02})
    return dataclasses.replace(record, constants=json.loads(text) | changes)


def test_a_calibrated_machine_is_predicted_with_its_constants(record: Record) -> None:
    plain, comparison = Comparison(record), Comparison(calibrated(record))
    assert plain.basis.words == OWN_ROOFS
    assert comparison.basis.words == "constants calibrated on cpu 2026-01-02"
    for before, row in zip(plain.rows, comparison.rows, strict=True):
        expected = predict_op(row.op, rates_of_op(row.op, CALIBRATED))
        assert row.predicted_s == expected.time_s
        assert row.prediction
        assert before.prediction
        assert row.prediction.bound_s == min(expected.bound_s, before.prediction.bound_s) <= row.prediction.time_s
        assert before.interval_s is None
        low = max(row.prediction.bound_s, 0.92 * expected.time_s)
        assert row.interval_s == pytest.approx((low, 1.08 * expected.time_s))


def test_without_a_roof_constants_predict_alone(record: Record) -> None:
    rows = Comparison(dataclasses.replace(calibrated(record), roofs=[])).rows
    assert [row.prediction for row in rows] == [predict_op(row.op, rates_of_op(row.op, CALIBRATED)) for row in rows]


def test_naive_attention_keeps_the_roofs_as_only_the_fused_kernel_is_calibrated(record: Record) -> None:
    points = [{(row.point.backend, row.point.new_tokens): row.predicted_s for row in Comparison(one).attention}
              for one in (record, calibrated(record))]  # fmt: skip
    assert points[0]["naive", 1024] == points[1]["naive", 1024]
    assert points[0]["sdpa", 1024] != points[1]["sdpa", 1024]


@pytest.mark.parametrize(
    "change", [{"classes": []}, {"classes": 3}, {"kind": "x"}, {"dtype": "fp16"}, {"validation": 1}]
)
def test_constants_that_are_none_are_refused(record: Record, change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        _ = [row.predicted_s for row in Comparison(calibrated(record, **change)).rows]


def test_constants_of_naive_attention_are_its_own(record: Record) -> None:
    own = {"attention_prefill_gemm": Rates(GEMM, STREAM, 1e-3), "attention_prefill_copy": Rates(None, COPY, 2e-3)}
    text = constants_to_json(
        "cpu", "bf16", "2026-01-02", CALIBRATED | own, {"prefill_error": 0.04, "decode_error": 0.02}
    )
    found = Comparison(dataclasses.replace(record, constants=json.loads(text)))
    (row,) = (row for row in found.attention if (row.point.backend, row.point.new_tokens) == ("naive", 1024))
    scores, flops = 32 * 1024**2 * 2, 2 * 128 * 32 * (1024 * 1025 // 2)
    around = 2 * 32 * 1024 * 128 * 2  # queries and keys, values and output
    products_s = 2 * (1e-3 + max(flops / GEMM, (around + scores) / STREAM))
    assert row.predicted_s == pytest.approx(products_s + 2e-3 + 2 * scores / COPY)


def test_attention_without_its_roof_is_not_predicted(record: Record) -> None:
    spoiled = [one for one in roofs("bf16") if one.kind != "attention"]
    spoiled.append(Roof(kind="attention", dtype="bf16", per_second=None, reason="no fused kernel"))
    rows = Comparison(dataclasses.replace(record, roofs=spoiled)).attention
    assert {row.reason for row in rows if row.point.algorithm == "naive"} == {None}
    (reason,) = {row.reason for row in rows if row.point.backend == "sdpa"}
    assert reason == "not predicted: the attention roof for bf16 has no value (no fused kernel)"


@pytest.mark.parametrize("lacking", [*([name] for name in sorted(CALIBRATED)), sorted(CALIBRATED)])
def test_a_class_without_constants_falls_back_to_its_roof(record: Record, lacking: list[str]) -> None:
    plain = {(row.phase, row.op.name): row.prediction for row in Comparison(record).rows}
    text = constants_to_json(
        "cpu", "bf16", "2026-01-02", {name: rate for name, rate in CALIBRATED.items() if name not in lacking},
        {"prefill_error": 0.04, "decode_error": 0.02},
    )  # fmt: skip
    bare = dataclasses.replace(record, constants=json.loads(text))
    comparison = Comparison(bare)
    for row in comparison.rows:
        if {row.op.rate_class, row.op.kind} & set(lacking):
            assert row.prediction == plain[row.phase, row.op.name]
            assert row.interval_s is None
        else:
            assert row.interval_s is not None
    assert "from roofs alone" in comparison.basis.words
    for where in (bare, dataclasses.replace(bare, roofs=[])):
        assert verdict(Comparison(where)).text
        assert changes(Comparison(where)) is not None
    if len(lacking) > 1:
        assert "</html>" in render(dataclasses.replace(bare, roofs=[]))


def test_what_lies_outside_the_fitted_range_has_a_wide_interval_and_is_no_error(record: Record) -> None:
    few = {"kernels": 3, "error": 0.1, "flops": [0, 0], "bytes": [1, 64]}
    wide, known = (Comparison(calibrated(record, fitted=one)) for one in ({"elementwise": few}, {}))
    far = [row for row in wide.rows if row.op.rate_class.startswith("elementwise")]
    assert far
    assert {row.phase for row in far} == {"prefill", "decode"}
    for row, before in zip(wide.rows, known.rows, strict=True):
        assert row.predicted_s == before.predicted_s
        assert row.outside == (row in far)
        assert row.interval_s is not None
        assert row.prediction is not None
        if row.outside:
            assert row.interval_s[0] <= row.prediction.bound_s
            assert row.interval_s[1] > 10 * row.prediction.time_s
    assert wide.errors is not None
    assert known.errors is not None
    assert (wide.errors.outside, known.errors.outside) == (sum(row.error is not None for row in far), 0)
    assert wide.errors.worst not in far
    assert f"{wide.errors.outside} more lie outside what was calibrated." in verdict(wide).text
