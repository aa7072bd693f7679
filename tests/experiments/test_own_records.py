"""Records of our own model: what is scored, how, and that no shape is on both sides."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from experiments import own_records
from experiments.common.folders import RECORDS
from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.comparison.comparison import Comparison
from llamalab.records.record import Record
from llamalab.records.record_json import record_to_json
from llamalab.report.recorded_runs import records_of
from tests.report.sample import GEMM, STREAM, sample_record

MACHINES = sorted(path.parent for path in RECORDS.glob("*/constants-*.json"))
CONSTANTS = dict.fromkeys(CLASSES, Rates(GEMM, STREAM, 1e-5, 0.9, 0.9, 2.0))
CHECKED = {"model": "13b", "batch": 3, "new": 1, "past": 40, "predicted_s": 1.1, "measured_s": 1.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record = sample_record()
    weights, cache = 2 * (2 * 202_383_360 + 2 * 131_072_000 + 4096), 2 * 2 * 2 * 4096 * 513
    passes = [
        dataclasses.replace(one, memory=dataclasses.replace(one.memory, resident_bytes=weights + cache))
        for one in record.passes
    ]
    machine = tmp_path / "a-cpu"
    machine.mkdir()
    (machine / "7b.json").write_text(record_to_json(dataclasses.replace(record, passes=passes)))
    validation: dict[str, Any] = {"prefill_error": 0.1, "decode_error": 0.1, "points": [CHECKED]}
    text = constants_to_json("cpu", "bf16", "2026-01-02", CONSTANTS, validation, load_average=[0.5, 1.5])
    (machine / "constants-bf16.json").write_text(text)
    (tmp_path / "no-constants").mkdir()
    (tmp_path / "no-constants" / "7b.json").write_text(record_to_json(record))
    return tmp_path


def test_passes_of_records_and_of_the_calibration_are_scored(folder: Path) -> None:
    prefill, decode, checked = own_records.scores(folder)
    assert [(one.machine, one.model, one.phase) for one in (prefill, decode)] == [
        ("a-cpu", "7b", "prefill"), ("a-cpu", "7b", "decode"),
    ]  # fmt: skip
    record = sample_record()
    data = json.loads((folder / "a-cpu" / "constants-bf16.json").read_text())
    phases = Comparison(dataclasses.replace(record, constants=data)).phases
    assert [prefill.predicted_s, decode.predicted_s] == [phase.predicted_s for phase in phases]
    assert prefill.median_s == record.passes[0].total_s > prefill.fastest_s
    assert abs(prefill.memory_error or 1.0) < 0.001
    assert (checked.model, checked.batch, checked.context_tokens, checked.load) == ("13b", 3, 41, 1.5)
    assert checked.error == pytest.approx(0.1)
    assert (checked.median_error, checked.memory_error) == (None, None)


def test_the_page_says_what_was_found(folder: Path, tmp_path: Path) -> None:
    text = "\n".join(own_records.page(own_records.scores(folder)))
    assert "| a-cpu | decode | 2 |" in text
    assert "| a-cpu | peak memory | 2 |" in text
    assert "+10.0 %" in text
    assert "None is committed." in own_records.page(own_records.scores(tmp_path / "empty"))


def test_the_last_line_is_the_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert own_records.main([str(folder)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["passes"] == 3
    assert result["decode_mape"] > 0


def test_something_is_committed() -> None:
    assert {one.model for one in own_records.scores()} >= {"7b", "tiny"}


def fitted(data: dict[str, Any]) -> tuple[set[tuple[int, int]], set[tuple[int, int, int]]]:
    """Widths and passes that a calibration was fitted on."""
    widths = {(block["arch"]["dim"], block["arch"]["ffn_dim"]) for block in data["fitted_on"]}
    shapes = [shape for block in data["fitted_on"] for shape in block["shapes"]]
    return widths, {(shape["batch"], shape["new"], shape["past"]) for shape in shapes}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.name)
def test_no_shape_is_both_fitted_and_scored(machine: Path) -> None:
    records: list[Record] = records_of(machine)
    assert own_records.calibrations(machine)
    for path in own_records.calibrations(machine):
        data = json.loads(path.read_text())
        widths, shapes = fitted(data)
        assert widths
        for record in records:
            assert (record.llama_arch.dim, record.llama_arch.ffn_dim) not in widths
            for run in record.passes:
                assert (run.batch, run.new_tokens, run.context_tokens - run.new_tokens) not in shapes
        for point in data["validation"]["points"]:
            assert (point["batch"], point["new"], point["past"]) not in shapes


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.name)
def test_what_is_committed_names_no_host_user_or_path(machine: Path) -> None:
    for path in machine.glob("*.json"):
        text = path.read_text()
        assert not [word for word in ("/home", "/root", "/tmp", "/work") if word in text], path.name


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.name)
def test_peak_memory_is_as_predicted(machine: Path) -> None:
    own = [one for one in own_records.scores() if one.machine == machine.name]
    errors = [one.memory_error for one in own if one.memory_error is not None]
    assert errors
    assert all(abs(error) <= (0.03 if own[0].kind == "cuda" else 0.02) for error in errors)
