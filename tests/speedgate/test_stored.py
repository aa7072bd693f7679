"""Stored runs: what is kept of a machine, and the table of two of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import pytest_benchmark_update_machine_info
from tests.report.test_trend import stored
from tools.speedgate.stored import main


def test_the_host_and_what_changes_by_itself_are_not_kept(pytestconfig: pytest.Config) -> None:
    cpu = {"brand_raw": "AMD EPYC", "flags": ["avx"], "hz_actual": [1, 0], "hz_actual_friendly": "1 Hz"}
    info: dict[str, Any] = {"node": "secret-host", "release": "6.1-secret", "machine": "x86_64", "cpu": cpu}
    pytest_benchmark_update_machine_info(pytestconfig, info)
    assert "secret" not in json.dumps(info)
    assert info["cpu"] == {"brand_raw": "AMD EPYC"}
    assert info["machine"] == "x86_64"


def test_the_last_two_runs_or_chosen_ones_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, factor in enumerate((1.0, 2.0, 1.5), start=1):
        stored(tmp_path, number, factor)
    assert main([], folder=tmp_path) == 0
    out = capsys.readouterr().out
    assert "old 0002: " in out
    assert "new 0003: " in out
    assert "model: decode_step[1]  20.00 ms  15.00 ms  -25.0%" in out
    assert main(["1", "0003"], folder=tmp_path) == 0
    assert "10.00 ms  15.00 ms  +50.0%" in capsys.readouterr().out
    assert main(["0001"], folder=tmp_path) == 0
    assert "new 0003: " in capsys.readouterr().out


def test_too_few_runs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], folder=tmp_path / "absent") == 0
    assert "here are none" in capsys.readouterr().out
    stored(tmp_path, 1, 1.0)
    assert main(["7"], folder=tmp_path) == 0
    assert "here are 0001" in capsys.readouterr().out


def test_runs_of_two_machines_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path, 1, 1.0)
    stored(tmp_path, 2, 1.0, brand="Another CPU")
    main([], folder=tmp_path)
    assert "two machines" in capsys.readouterr().out
