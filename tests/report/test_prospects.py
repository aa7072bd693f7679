"""What stands beside a run on the page: what to try, other devices, and recorded runs, marked as such."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest

from experiments.common.folders import RECORDS
from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.comparison.comparison import Comparison
from llamalab.errors import FormatError
from llamalab.hardware import WIDELY_USED
from llamalab.records.record import Record
from llamalab.records.record_json import record_to_json
from llamalab.report import csv_files, render
from llamalab.report import prospects as outlook
from llamalab.report.recorded_runs import recorded_runs
from llamalab.report.roof_table import roofs
from llamalab.report.tables import WORST, worst
from tests.report.sample import COPY, GEMM, STREAM, environment, sample_record

H200 = {"device": "cuda", "device_name": "NVIDIA H200", "memory_bytes": 150_754_820_096}
CONSTANTS = dict.fromkeys(CLASSES, Rates(2 * GEMM, 2 * STREAM, 1e-5, 0.4, 0.4, 2.0))


@pytest.fixture(scope="module")
def gpu() -> Record:
    """A run as it might have been on a GPU."""
    return sample_record("13b", seed=11, environment=environment(**H200, started_at="2026-01-20T10:00:00+00:00"))


@pytest.fixture(scope="module")
def comparison(record: Record) -> Comparison:
    return Comparison(record)


def calibrated(record: Record) -> Record:
    text = constants_to_json("cpu", "bf16", "2026-01-02", CONSTANTS, {"prefill_error": 0.04, "decode_error": 0.02})
    return dataclasses.replace(record, constants=json.loads(text))


def test_recorded_runs_stand_on_the_page_and_are_marked(record: Record, gpu: Record) -> None:
    html = render(record, [gpu])
    assert 'id="recorded"' in html
    assert "recorded 2026-01-20" in html
    assert "NVIDIA H200" in html
    assert 'id="recorded"' not in render(record)
    (prefill, decode) = outlook.recorded([gpu]).rows
    phases = Comparison(gpu).phases
    assert [row["measured_s"] for row in (prefill, decode)] == [phase.measured_s for phase in phases]
    assert [row["error"] for row in (prefill, decode)] == [phase.error for phase in phases]
    assert {row["basis"] for row in (prefill, decode)} == {"this record's own roofs"}


def test_committed_records_are_those_of_a_kind_of_device(tmp_path: Path, record: Record, gpu: Record) -> None:
    for folder, name, one in (("a-cpu", "7b", record), ("b-h200", "13b", gpu)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.json").write_text(record_to_json(one))
        (tmp_path / folder / "constants-bf16.json").write_text("{}")
    assert recorded_runs(tmp_path) == [record, gpu]
    assert recorded_runs(tmp_path, accelerators=True) == [gpu]
    assert recorded_runs(tmp_path / "absent") == []
    (tmp_path / "a-cpu" / "broken.json").write_text('{"parameters_measured"')
    with pytest.raises(FormatError, match=r"broken\.json"):
        recorded_runs(tmp_path)


def test_the_records_of_this_source_can_be_read() -> None:
    for one in recorded_runs(RECORDS):
        assert Comparison(one).phases


def test_what_to_try_is_on_the_page_with_its_basis(record: Record, html: str) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_files(record)["next"])))
    savings = [float(row["saved_s"]) for row in rows]
    assert savings == sorted(savings, reverse=True)
    here = [row for row in rows if row["needs"] != "another device"]
    assert {row["basis"] for row in here} <= {"this record's own roofs", "measured calls"}
    assert len(rows) == len(here) + 1
    assert 'id="next"' in html
    assert all(row["what"] in html for row in rows)
    bare = dataclasses.replace(record, roofs=[])
    assert "Nothing that is known here is predicted to shorten" in render(bare)


def test_every_device_is_in_the_table(record: Record) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_files(record)["devices"])))
    assert {row["device"] for row in rows} == {*WIDELY_USED, "this machine"}
    for row in rows:
        assert bool(row["total_s"]) == bool(row["devices"])
        if row["total_s"]:
            assert float(row["low_s"]) <= float(row["total_s"]) <= float(row["high_s"])
        assert row["basis"]


def test_the_worst_predictions_come_first(comparison: Comparison) -> None:
    table = worst(comparison)
    errors = [abs(row["error"]) for row in table.rows]
    assert len(errors) == WORST
    assert errors == sorted(errors, reverse=True)
    assert comparison.errors
    assert table.rows[0]["name"] == comparison.errors.worst.op.name
    assert all(0 < row["share"] < 1 for row in table.rows)
    assert "low_s" not in [column.key for column in table.columns]


def test_the_worst_of_the_table_is_that_of_the_card_where_some_are_not_calibrated(
    comparison: Comparison, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = worst(comparison).rows[0]["name"]
    monkeypatch.setattr(type(comparison.basis), "outside", lambda self, op: op.name == far)
    changed = Comparison(record)
    assert changed.errors
    assert changed.errors.outside
    assert far not in [row["name"] for row in worst(changed).rows]
    assert worst(changed).rows[0]["name"] == changed.errors.worst.op.name


def test_intervals_are_shown_where_the_basis_has_them(record: Record) -> None:
    changed = calibrated(record)
    table, html = worst(Comparison(changed)), render(changed)
    assert {"low_s", "high_s"} <= {column.key for column in table.columns}
    assert all(row["low_s"] < row["predicted_s"] < row["high_s"] for row in table.rows)
    assert "Predictions rest on constants calibrated on cpu 2026-01-02." in html
    assert "soft maximum (q = 2.00) of (" in html
    assert html.count("interval of the prediction") == render(record).count("interval of the prediction") + 1


def test_the_data_sheet_stands_beside_the_measured_roof_where_the_device_is_known(record: Record, gpu: Record) -> None:
    rows = {row["kind"]: row for row in roofs(Comparison(gpu)).rows}
    assert rows["gemm"]["data_sheet_per_second"] == 989.4e12
    assert rows["gemm"]["data_sheet_share"] == pytest.approx(GEMM / 989.4e12)
    assert rows["copy"]["data_sheet_share"] == pytest.approx(COPY / 4800e9)
    assert rows["launch"]["data_sheet_per_second"] is None
    assert {row["data_sheet_per_second"] for row in roofs(Comparison(record)).rows} == {None}
    assert "data sheet 989.40 TFLOP/s, 4.80 TB/s" in render(gpu)
    assert "data sheet 9" not in render(record)
