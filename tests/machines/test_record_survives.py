"""What was measured is kept, whatever fails after it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import llamalab.report
from llamalab.cli import main
from llamalab.measure.calibration import constants_here
from llamalab.measure.calibration import run as calibrate
from llamalab.measure.report import run as record
from llamalab.records.record import Record
from llamalab.records.record_json import record_from_json
from llamalab.report import recorded_runs as runs
from tests.fakes import everywhere
from tests.report.sample import sample_record

AFTER: dict[str, tuple[Any, Callable[..., Any]]] = {
    "render": (llamalab.report, llamalab.report.render),
    "calibrate": (calibrate, calibrate.calibrate),
    "recorded_runs": (runs, runs.recorded_runs),
}
ERRORS = (RuntimeError("no such kernel"), MemoryError(), OSError(28, "No space left on device"), KeyError("gemm"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Record:
    """A report's measuring that is over at once, in an empty folder, with no calibration kept."""
    made = sample_record("tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(record, "measure_report", lambda *_, **__: made)
    monkeypatch.setattr(constants_here, "short_calibration", lambda *_, **__: None)
    return made


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("what", AFTER)
def test_the_record_is_there_and_renders_again(
    what: str, error: Exception, measured: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patched:
        module, function = AFTER[what]
        if what == "calibrate":
            patched.setattr(constants_here, "short_calibration", lambda *_, **__: broken())
        patched.setattr(module, what, broken)
        everywhere(patched, function, broken)
        code = main(["report", "--model", "tiny", "--device", "cpu", "--out", "page.html"])
    said = capsys.readouterr().err
    assert code in (0, 3)
    assert "Traceback" not in said
    assert (
        record_from_json((tmp_path / "page.json").read_text(encoding="utf-8"), source="page.json").passes
        == measured.passes
    )
    assert (code == 0) == (tmp_path / "page.html").exists()
    assert main(["report", "--from", "page.json", "--out", "again.html"]) == 0
    assert (tmp_path / "again.html").stat().st_size > 10_000
