"""`llamalab hardware`: the table, and the card of one device."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from llamalab.analytic.calibration_files import constants_to_json, default_path
from llamalab.analytic.constants import TRANSFERRED_SPREAD, choose
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.cli.devices import chosen_devices
from llamalab.cli.hardware import SOURCED
from llamalab.errors import FormatError, MissingError
from llamalab.hardware import CPUS, HARDWARE, PEAK_DTYPES
from tests.cli.calls import Capture, loaded, printed, refused


@pytest.fixture(autouse=True)
def no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_the_cpu_is_a_row_once_it_is_measured(capsys: Capture) -> None:
    assert "This machine's CPU is measured: llamalab calibrate" in printed(capsys, "hardware")
    assert "run llamalab calibrate first" in refused(capsys, "hardware", "cpu", code=3)
    path, rates = default_path("cpu", "bf16"), dict.fromkeys(CLASSES, Rates(8.85e11, 3.2e10))
    path.parent.mkdir()
    validation = {"prefill_error": 0.1, "decode_error": 0.1}
    path.write_text(
        constants_to_json("cpu", "bf16", "2026-01-02", rates, validation, title="A CPU", memory_bytes=24 * 10**9)
    )
    row = next(line for line in printed(capsys, "hardware").splitlines() if line.startswith("cpu "))
    assert row.split()[1:10] == ["0.885", "–", "–", "–", "–", "–", "32", "24", "–"]
    assert row.endswith("measured by llamalab calibrate on 2026-01-02")
    assert "A CPU" in printed(capsys, "hardware", "cpu")


def test_every_device_is_in_the_table(capsys: Capture) -> None:
    text = printed(capsys, "hardware")
    assert printed(capsys, "hardware", "all") == printed(capsys, "hardware", "--hardware", "all") == text
    assert all(f"\n{name} " in text for name in HARDWARE)
    row = next(line for line in text.splitlines() if line.startswith("t4-16gb"))
    assert row.split()[1:9] == ["–", "65", "–", "8.1", "130", "–", "320", "16"]


def test_json_has_raw_numbers_and_null_for_the_unknown(capsys: Capture) -> None:
    (device,) = loaded(capsys, "hardware", "a100-80gb-sxm")["devices"]
    assert device["memory_bytes"] == 80 * 10**9
    assert device["bandwidth_bytes_per_s"] == 2039e9
    assert device["peaks"] == [
        {"dtype": "bf16", "flops_per_s": 312e12, "accumulate": "fp32"},
        {"dtype": "fp16", "flops_per_s": 312e12, "accumulate": "fp32"},
        {"dtype": "tf32", "flops_per_s": 156e12, "accumulate": "fp32"},
        {"dtype": "fp32", "flops_per_s": 19.5e12, "accumulate": "fp32"},
        {"dtype": "int8", "flops_per_s": 624e12, "accumulate": "int32"},
        {"dtype": "fp8", "flops_per_s": None, "accumulate": "fp32"},
    ]
    assert device["clocking"] == {"matrix_units": 432, "fma_per_clock": 256, "clock_hz": 1410e6}


def test_a_card_shows_the_ridge_and_the_clock(capsys: Capture) -> None:
    text = printed(capsys, "hardware", "h200")
    assert "bf16 ridge        206 FLOP/byte\n" in text
    assert "units × clock     528 matrix units × 512 FMA × 2 × 1830 MHz = 989.4 TFLOP/s\n" in text


def test_every_card_can_be_shown(capsys: Capture) -> None:
    for name, spec in (HARDWARE | CPUS).items():
        assert spec.source in printed(capsys, "hardware", name)


def test_csv_of_one_and_of_all_have_the_same_columns(capsys: Capture) -> None:
    every = list(csv.DictReader(io.StringIO(printed(capsys, "hardware", "--format", "csv"))))
    one = list(csv.DictReader(io.StringIO(printed(capsys, "hardware", "l40s", "--format", "csv"))))
    assert len(every) == len(HARDWARE) + len(CPUS)
    assert one == [row for row in every if row["name"] == "l40s-48gb"]
    assert one[0]["peak_bf16_flops_per_s"] == "362050000000000.0"
    assert one[0]["clock_hz"] == ""


def test_an_unknown_name_gets_the_nearest(capsys: Capture) -> None:
    assert refused(capsys, "hardware", "h200-140gb-sxm").endswith("did you mean h200-141gb-sxm or h100-80gb-sxm?")


@pytest.mark.parametrize("name", ["h200.json", "Two, three.JSON"])
def test_what_is_printed_is_a_hardware_file(capsys: Capture, tmp_path: Path, name: str) -> None:
    """The printed row gives the row's own predictions, fitted constants included."""
    file = tmp_path / name
    file.write_text(printed(capsys, "hardware", "h200", "--format", "json"), encoding="utf-8-sig")
    asked = ("predict", "--format", "csv", "--hardware")
    assert printed(capsys, *asked, str(file)) == printed(capsys, *asked, "h200")
    assert len(printed(capsys, *asked, f"l4,{file},h200").splitlines()) == 4


def test_the_whole_table_is_a_hardware_file(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "all.json"
    file.write_text(printed(capsys, "hardware", "--format", "json"))
    read, table = chosen_devices(str(file)), [*HARDWARE.values(), *CPUS.values()]
    assert [spec._replace(sources={}) for spec in read] == [
        spec._replace(device_names=(), sources={}) for spec in table
    ]
    cells = [*SOURCED, *(f"peak_flops_per_s.{dtype}" for dtype in PEAK_DTYPES)]
    for own, spec in zip(read, table, strict=True):
        assert [own.source_of(cell) for cell in cells] == [spec.source_of(cell) for cell in cells]


def test_a_file_named_like_a_shipped_device_gets_none_of_its_constants(tmp_path: Path, capsys: Capture) -> None:
    own = {"name": "h100-80gb-sxm", "peak_flops_per_s": {"bf16": 1e14}, "bandwidth_bytes_per_s": 1e12,
           "memory_bytes": 80 * 10**9}  # fmt: skip
    file = tmp_path / "own.json"
    file.write_text(json.dumps(own))
    (spec,) = chosen_devices(str(file))
    assert choose(spec, "shipped", "bf16").basis == "shipped (transferred from a100-80gb-sxm)"
    assert choose(spec, "shipped", "bf16").spread == TRANSFERRED_SPREAD
    with pytest.raises(MissingError, match="own file"):
        choose(spec, "calibrated", "bf16")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": 5}, "name must be str; got 5"),
        ({"name": " "}, "name of .* must not be empty"),
        ({"title": ["x"]}, "title must be str"),
        ({"memory_bytes": 1.5}, "memory_bytes must be int"),
        ({"memory_bytes": 10**20}, "memory_bytes of .* at most"),
        ({"peak_flops_per_s": {"bf16": True}}, "must be float"),
        ({"bandwidth_bytes_per_s": 1e-300}, "at least 1"),
        ({"clocking": {"matrix_units": 1}}, "odd or missing"),
        ({"clocking": 7}, "must be an object"),
    ],
)
def test_a_hardware_file_that_is_wrong_is_a_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    own = {"name": "mine", "peak_flops_per_s": {"bf16": 1e14}, "bandwidth_bytes_per_s": 1e12, "memory_bytes": 10**10}
    file = tmp_path / "own.json"
    file.write_text(json.dumps(own | change))
    with pytest.raises(FormatError, match=sentence):
        chosen_devices(str(file))
