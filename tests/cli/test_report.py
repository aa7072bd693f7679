"""`llamalab report`: what it writes, prints and refuses; measuring is replaced by a sample record."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llamalab.analytic.calibration_files import constants_to_json, default_path
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.cli import main
from llamalab.cli.progress import Progress
from llamalab.files import workspace
from llamalab.records.profile import profiles_to_json
from llamalab.records.record import Record
from llamalab.records.record_json import record_from_json, record_to_json, shown_text
from llamalab.report import CSV_HEADS, OURS, render_profiles
from tests.report.sample import sample_record
from tests.report.sample_profile import sample_profile

PROFILE_CSVS = {"layers", "timeline", "kernels", "telemetry", "observers"}
CSVS = {"passes", "ops", "memory", "kv", "attention", "roofs", "devices", "next", "published"} | PROFILE_CSVS


@pytest.fixture(scope="module")
def record() -> Record:
    return sample_record()


@pytest.fixture
def measured(record: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """The calls of measure_report, which gives the sample; the working folder is empty."""
    from llamalab.measure.calibration import constants_here
    from llamalab.measure.report import run as recording

    calls: list[dict[str, Any]] = []

    def measure_report(name: str, arch: object, *, progress: Progress, **options: Any) -> Record:
        progress("roofs", 0.3)
        calls.append({"name": name, "arch": arch, **options})
        return dataclasses.replace(record, model=name)

    monkeypatch.setattr(recording, "measure_report", measure_report)
    monkeypatch.setattr(constants_here, "short_calibration", lambda *_, **__: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / ".data"))
    monkeypatch.chdir(tmp_path)
    return calls


def test_writes_page_record_and_tables_and_prints_the_verdict(
    measured: list[dict[str, Any]], record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--model", "7b", "--device", "cpu"]) == 0
    names = {path.name for path in Path("reports").iterdir()}
    assert names == {"7b-cpu.html", "7b-cpu.json", *(f"7b-cpu.{name}.csv" for name in CSVS)}
    assert record_from_json(Path("reports/7b-cpu.json").read_text()) == record
    out, err = capsys.readouterr()
    size = Path("reports/7b-cpu.html").stat().st_size
    assert out.startswith("Llama 2 7B in bf16 on 2 CPU threads reads a 512-token prompt at ")
    assert err.splitlines()[-1] == f"note: the page is reports/7b-cpu.html ({size / 1024:.2f} KiB)"
    assert "24% roofs, at most " in err  # a calibration of the machine follows
    assert "roofs" not in out.splitlines()[0]
    assert 76 < measured[0].pop("deadline").seconds <= 80  # four fifths of 100 s, less what was spent
    assert measured[0] | {"arch": None} == {
        "name": "7b", "arch": None, "device": "cpu", "dtype": "bf16", "full": False,
        "prompt_tokens": None, "batch": 1, "generate": None, "context_tokens": None, "weights": None, "team": None,
        "read": None, "weight_dtype": None, "kv_dtype": None, "attention": None,
    }  # fmt: skip


def keep_constants(title: str, dtype: str = "bf16") -> Path:
    """A calibration of a CPU of that name, where `llamalab calibrate` keeps it."""
    path = default_path("cpu", dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    validation = {"prefill_error": 0.04, "decode_error": 0.02}
    path.write_text(constants_to_json("cpu", dtype, "2026-01-02", dict.fromkeys(CLASSES, Rates(1e12, 3e10)), validation,
                                 title=title, memory_bytes=2**34))  # fmt: skip
    return path


@pytest.mark.usefixtures("measured")
def test_a_report_brings_a_short_calibration_where_none_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from llamalab.measure.calibration import constants_here

    made = json.loads(keep_constants("this CPU").read_text())
    default_path("cpu", "bf16").unlink()
    monkeypatch.setattr(constants_here, "short_calibration", lambda *_, **__: made)
    assert main(["report", "--model", "tiny", "--device", "cpu"]) == 0
    assert record_from_json(Path("reports/tiny-cpu.json").read_text()).constants == made


@pytest.mark.usefixtures("measured")
def test_a_calibration_of_this_machine_is_what_predictions_rest_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamalab.measure.calibration.constants_here.device_name", lambda device: "this CPU")
    keep_constants("this CPU")
    assert main(["report", "--device", "cpu"]) == 0
    kept = record_from_json(Path("reports/7b-cpu.json").read_text())
    assert kept.constants
    assert kept.constants["title"] == "this CPU"
    assert "Predictions rest on constants calibrated on cpu 2026-01-02." in Path("reports/7b-cpu.html").read_text()


@pytest.mark.usefixtures("measured")
def test_a_calibration_of_another_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamalab.measure.calibration.constants_here.device_name", lambda device: "this CPU")
    keep_constants("another CPU")
    assert main(["report", "--device", "cpu"]) == 0
    assert record_from_json(Path("reports/7b-cpu.json").read_text()).constants is None


def test_a_damaged_calibration_is_told_before_measuring(
    measured: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    keep_constants("this CPU").write_text("{}")
    assert main(["report", "--device", "cpu"]) == 2
    assert "must be written by llamalab calibrate" in capsys.readouterr().err
    assert measured == []


def test_writes_over_its_own_files(measured: list[dict[str, Any]]) -> None:
    for _ in range(2):
        assert main(["report", "--model", "tiny", "--device", "cpu", "--out", "x/page.html"]) == 0
    assert len(measured) == 2
    assert {path.suffix for path in Path("x").iterdir()} == {".html", ".json", ".csv"}


def test_rerenders_a_record_to_the_same_page(measured: list[dict[str, Any]]) -> None:
    assert main(["report", "--device", "cpu"]) == 0
    page = Path("reports/7b-cpu.html").read_bytes()
    assert main(["report", "--from", "reports/7b-cpu.json", "--out", "again.html"]) == 0
    assert len(measured) == 1
    assert Path("again.html").read_bytes() == page
    assert Path("again.json").read_text() == Path("reports/7b-cpu.json").read_text()
    assert record_to_json(record_from_json(shown_text("again.html", "page"))) == Path("again.json").read_text()


@pytest.mark.parametrize("foreign", ["page.html", "page.json", "page.ops.csv"])
def test_leaves_foreign_files_alone_and_says_so_before_measuring(
    measured: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], foreign: str
) -> None:
    Path(foreign).write_text("mine\n")
    assert main(["report", "--out", "page.html", "--device", "cpu"]) == 2
    assert "neither; choose another path" in capsys.readouterr().err
    assert Path(foreign).read_text() == "mine\n"
    assert [path.name for path in Path().iterdir()] == [foreign]
    assert measured == []


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["--model", "8b"], 2, "did you mean"),
    (["--model", "none.json"], 3, "there is no file"),
    (["--device", "tpu"], 2, "--device must be one of"),
    (["--dtype", "int8"], 2, "--dtype must be one of"),
    (["--out", "page.txt"], 2, "must end in .html"),
    (["--out", "folder.html"], 2, "is a folder"),
    (["--from", "none.json"], 3, "there is no file"),
    (["--from", "foreign.json"], 2, "it has no schema_version"),
    (["--from", "folder.html"], 2, "regular file"),
])  # fmt: skip
def test_bad_input_is_one_sentence_before_any_work(
    measured: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    Path("folder.html").mkdir()
    Path("foreign.json").write_text("{}")
    assert main(["report", "--device", "cpu", *arguments]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert measured == []
    assert sorted(path.name for path in Path().iterdir()) == ["folder.html", "foreign.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder_is_told_before_measuring(measured: list[dict[str, Any]]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert main(["report", "--device", "cpu", "--out", "locked/page.html"]) == 3
    assert measured == []


def test_folder_that_is_a_file_is_told_before_measuring(measured: list[dict[str, Any]]) -> None:
    Path("file").write_text("")
    assert main(["report", "--device", "cpu", "--out", "file/page.html"]) == 3
    assert measured == []


def test_interrupt_while_measuring_leaves_nothing(
    measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llamalab.measure.report import run as recording

    def interrupted(*_: object, **__: object) -> Record:
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "measure_report", interrupted)
    assert main(["report", "--device", "cpu"]) == 130
    assert list(Path().rglob("*")) == []


@pytest.fixture
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is drawn at once."""
    monkeypatch.setattr("llamalab.report.render", lambda *_, **__: OURS)
    monkeypatch.setattr("llamalab.report.csv_files", lambda *_: CSV_HEADS)


@pytest.mark.usefixtures("quick_page")
def test_interrupt_while_renaming_leaves_the_former_report_and_the_new_record(
    measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["report", "--device", "cpu"]) == 0
    before = {path.name: path.read_bytes() for path in Path("reports").iterdir()}
    replace, seen = os.replace, []

    def fifth_time_interrupted(aside: Path, target: Path) -> None:
        seen.append(target)
        if len(seen) == 5:
            raise KeyboardInterrupt
        replace(aside, target)

    monkeypatch.setattr(workspace.os, "replace", fifth_time_interrupted)
    assert main(["report", "--device", "cpu"]) == 130
    assert {path.name: path.read_bytes() for path in Path("reports").iterdir()} == before


@pytest.mark.usefixtures("measured", "quick_page")
@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("llamalab.report.render", 3),
        ("llamalab.report.csv_files", 3),
        ("llamalab.cli.report_pages.write_report", 3),
        ("llamalab.cli.report_answer.verdict", 3),
        ("llamalab.measure.calibration.constants_here.short_calibration", 0),
        ("llamalab.report.recorded_runs.recorded_runs", 0),
        ("llamalab.report.experiment_results.recorded_results", 0),
        ("llamalab.report.trend.stored_runs", 0),
    ],
)
@pytest.mark.parametrize("error", [KeyError("gemm"), OSError(28, "No space")])
def test_what_fails_after_measuring_does_not_cost_the_record(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, code: int,
    error: Exception,
) -> None:  # fmt: skip
    def broken(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(what, broken)
        assert main(["report", "--model", "7b", "--device", "cpu"]) == code
    assert record_from_json(Path("reports/7b-cpu.json").read_text()) == record
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if code:
        assert "render again with llamalab report --from reports/7b-cpu.json" in said
    else:
        assert Path("reports/7b-cpu.html").exists()


@pytest.mark.usefixtures("measured", "quick_page")
@pytest.mark.parametrize("ending", [KeyboardInterrupt(), SystemExit(143)])
def test_an_end_while_calibrating_keeps_the_record(
    record: Record, monkeypatch: pytest.MonkeyPatch, ending: BaseException
) -> None:
    def ended(*_: object, **__: object) -> None:
        raise ending

    monkeypatch.setattr("llamalab.measure.calibration.constants_here.short_calibration", ended)
    assert main(["report", "--model", "7b", "--device", "cpu"]) in (130, 143)
    assert [path.name for path in Path("reports").iterdir()] == ["7b-cpu.json"]


@pytest.mark.usefixtures("measured", "quick_page")
@pytest.mark.parametrize("text", ['{"parameters_measured"', '{"parameters_measured": 1}', "\udc80parameters_measured"])
def test_a_broken_record_of_another_run_costs_a_note_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "records" / "x"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_bytes(text.encode(errors="surrogateescape"))
    os.mkfifo(folder / "pipe.json")
    assert main(["report", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert said.count("is left out of the page") == 2
    assert "note: x/broken.json is left out" in said
    assert Path("reports/7b-cpu.html").exists()


@pytest.mark.usefixtures("measured", "quick_page")
def test_a_folder_that_fills_up_while_measuring_does_not_cost_the_record(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write, place = Path.write_bytes, tmp_path / "temporary"
    place.mkdir()

    def full(path: Path, data: bytes) -> int:
        if "reports" in path.parts and len(data) > 4096:
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    assert main(["report", "--device", "cpu"]) == 3
    said = capsys.readouterr().err
    (kept,) = place.glob("*/*.json")
    assert record_from_json(kept.read_text()) == record
    assert f"it is kept as {kept}" in said
    assert f"--from {kept}" in said
    assert list(Path("reports").iterdir()) == []


@pytest.mark.usefixtures("measured", "quick_page")
def test_where_no_file_can_be_written_the_record_is_printed(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    from llamalab.measure.report import run as recording

    measure = recording.measure_report

    def filled(*given: Any, **options: Any) -> Record:
        made = measure(*given, **options)
        monkeypatch.setattr(Path, "write_bytes", full)
        return made

    monkeypatch.setattr(recording, "measure_report", filled)
    assert main(["report", "--device", "cpu"]) == 3
    assert record_from_json(capsys.readouterr().out) == record


@pytest.mark.usefixtures("measured", "quick_page")
@pytest.mark.parametrize(("length", "code"), [(240, 0), (247, 2), (255, 2), (300, 2)])
def test_a_name_is_too_long_before_measuring_or_not_at_all(
    measured: list[dict[str, Any]], length: int, code: int
) -> None:
    assert main(["report", "--device", "cpu", "--out", "n" * (length - 5) + ".html"]) == code
    assert len(measured) == (code == 0)
    assert len(list(Path().iterdir())) == (2 + len(CSV_HEADS) if code == 0 else 0)


@pytest.mark.usefixtures("measured")
def test_a_profile_becomes_a_page_of_its_own(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    profile = sample_profile(record)
    kept = profiles_to_json([profile])
    Path("p.json").write_text(kept)
    assert main(["report", "--from", "p.json", "--out", "p.html"]) == 0
    assert Path("p.html").read_text() == render_profiles([profile])
    assert {path.name for path in Path().iterdir() if path.is_file()} == {
        "p.json", "p.html", *(f"p.{name}.csv" for name in PROFILE_CSVS)
    }  # fmt: skip
    assert Path("p.json").read_text() == kept
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("7b, llamalab, prefill: feed_forward.w")
    assert err.startswith("note: the page is p.html")
    assert main(["report", "--from", "p.json"]) == 0
    assert Path("reports/7b-profile-cpu.html").exists()


@pytest.mark.usefixtures("measured")
def test_a_profile_that_is_none_is_refused(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(profiles_to_json([sample_profile(record)]))
    broken: list[tuple[Any, str]] = [
        ([], "it has none"),
        ([{"schema_version": 2}], "must have schema_version 1; got 2"),
        ([{**data["profiles"][0], "phases": []}], "there is no phase"),
        ([{**data["profiles"][0], "extra": 1}], "odd or missing: extra"),
    ]
    for profiles, words in broken:
        Path("bad.json").write_text(json.dumps({"profiles": profiles}))
        assert main(["report", "--from", "bad.json", "--out", "bad.html"]) == 2
        assert words in capsys.readouterr().err
    assert not Path("bad.html").exists()


def test_record_of_a_model_file_holds_no_path(measured: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "My Llama"
    folder.mkdir()
    (folder / "params.json").write_text('{"dim": 64, "n_layers": 2, "n_heads": 4, "multiple_of": 32, "norm_eps": 1e-5}')
    assert main(["report", "--model", str(folder / "params.json"), "--device", "cpu"]) == 0
    assert measured[0]["name"] == "My Llama"
    assert Path("reports/My-Llama-cpu.html").exists()
    assert str(tmp_path) not in Path("reports/My-Llama-cpu.json").read_text()


def test_hostile_name_stays_in_its_folder(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.json").write_text(record_to_json(dataclasses.replace(record, model="../../<b>evil")))
    assert main(["report", "--from", "evil.json"]) == 0
    assert {path.parent.name for path in tmp_path.rglob("*.html")} == {"reports"}
    assert Path("reports/b-evil-cpu.html").exists()
