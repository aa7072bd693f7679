"""The trend of wall times: read from stored files, one machine at a time, drawn as sparklines."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llamalab.report.trend import PATTERN, SHOWN_RUNS, of_last_machine, series, stored_runs, trend_sections, trend_table


def stored(folder: Path, number: int, factor: float, *, brand: str = "AMD EPYC", extra: bool = False) -> Path:
    """A file as pytest-benchmark saves it, with times multiplied by `factor`."""
    times = {"test_model.py::test_decode_step[1]": 0.01, "test_report.py::test_page": 1.0}
    if extra:
        times["test_model.py::test_new"] = 0.5
    data: dict[str, Any] = {
        "machine_info": {
            "machine": "x86_64",
            "python_version": "3.11.7",
            "torch": "2.13.0",
            "cpu": {"brand_raw": brand},
        },
        "commit_info": {"id": f"{number:040x}", "dirty": False},
        "datetime": f"2026-01-{number:02}T10:00:00+00:00",
        "benchmarks": [
            {"fullname": f"tests/benchmarks/{name}", "stats": {"median": factor * seconds}}
            for name, seconds in times.items()
        ],
    }
    path = folder / "Linux-CPython-3.11-64bit" / f"{number:04}_{number:040x}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_without_stored_runs_there_is_no_section(tmp_path: Path) -> None:
    assert trend_sections(stored_runs(tmp_path / "absent")) == []
    assert trend_sections(stored_runs(tmp_path)) == []


def test_a_file_that_is_no_run_is_passed_over(tmp_path: Path) -> None:
    path = stored(tmp_path, 1, 1.0)
    for number, text in enumerate(("", "[]", "null", '{"datetime": 1}', path.read_text()[:-9]), start=2):
        (path.parent / f"{number:04}_broken.json").write_text(text, encoding="utf-8")
    (path.parent / "notes.json").write_text("{}", encoding="utf-8")
    assert len(list(tmp_path.glob(PATTERN))) == 6
    assert [run.number for run in stored_runs(tmp_path)] == ["0001"]


def test_runs_stand_in_order_of_time_and_of_one_machine(tmp_path: Path) -> None:
    stored(tmp_path, 3, 1.5)
    stored(tmp_path, 2, 2.0, brand="Another CPU")
    stored(tmp_path, 1, 1.0)
    runs = stored_runs(tmp_path)
    assert [run.number for run in runs] == ["0001", "0002", "0003"]
    assert [run.number for run in of_last_machine(runs)] == ["0001", "0003"]
    (section,) = trend_sections(runs)
    assert section.remarks == ("1 older runs, or runs on other machines, are left out.",)
    assert "2 of 2 medians moved by more than 10%, model: decode_step[1] the farthest (+50%)" in section.finding
    assert "decide nothing" in section.finding


def test_only_the_last_runs_are_shown(tmp_path: Path) -> None:
    for number in range(1, 29):
        stored(tmp_path, number, 1.0)
    runs = stored_runs(tmp_path)
    many = [run._replace(number=f"{place:04}") for place, run in enumerate(runs * 2)]
    assert [run.number for run in of_last_machine(many)] == [run.number for run in many[-SHOWN_RUNS:]]


def test_changes_are_those_of_the_medians(tmp_path: Path) -> None:
    for number, factor in enumerate((1.0, 4.0, 3.0), start=1):
        stored(tmp_path, number, factor, extra=number == 3)
    runs = stored_runs(tmp_path)
    rows = {row["benchmark"]: row for row in trend_table(runs).rows}
    page = rows["report: page"]
    assert (page["runs"], page["first_s"], page["before_s"], page["last_s"]) == (3, 1.0, 4.0, 3.0)
    assert page["since_before"] == pytest.approx(-0.25)
    assert page["since_first"] == pytest.approx(2.0)
    assert rows["model: new"]["before_s"] is None
    assert trend_table(runs).shown[list(rows).index("model: new")][3] == "–"
    assert series(runs)["model: new"] == [None, None, 1.5]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_benchmark_has_a_line_with_its_tooltip(tmp_path: Path, count: int) -> None:
    for number in range(1, count + 1):
        stored(tmp_path, number, float(number**3))
    (section,) = trend_sections(stored_runs(tmp_path))
    svg = section.figures[0].svg
    assert svg
    root = ElementTree.fromstring(svg)
    tips = [tip.text for group in root.iter("g") for tip in group.findall("title")]
    assert len(tips) == 2
    assert str(tips[0]).startswith(f"model: decode_step[1]: {count} runs, 10 ms in the first")
    assert section.figures[0].table
    assert len(section.figures[0].table.rows) == 2
    assert "one run is stored" in section.finding.lower() or count > 1
    assert svg == trend_sections(stored_runs(tmp_path))[0].figures[0].svg
