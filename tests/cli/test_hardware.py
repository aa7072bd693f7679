"""`llamalab hardware`: the table, and the card of one device."""

import csv
import io
from pathlib import Path

import pytest

from llamalab.analytic.constants import CLASSES, default_path, to_json
from llamalab.analytic.roofline import Rates
from llamalab.hardware import CPUS, HARDWARE
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
    path.write_text(to_json("cpu", "bf16", "2026-01-02", rates, validation, title="A CPU", memory_bytes=24 * 10**9))
    row = next(line for line in printed(capsys, "hardware").splitlines() if line.startswith("cpu "))
    assert row.split()[1:10] == ["0.885", "–", "–", "–", "–", "–", "32", "24", "–"]
    assert row.endswith("measured by llamalab calibrate on 2026-01-02")
    assert "A CPU" in printed(capsys, "hardware", "cpu")


def test_every_device_is_in_the_table(capsys: Capture) -> None:
    text = printed(capsys, "hardware")
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
