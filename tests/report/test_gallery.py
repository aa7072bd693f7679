"""The page over several records: errors of their predictions."""

import dataclasses
import re
from pathlib import Path

import pytest

from llamalab.cli import main
from llamalab.comparison.comparison import Comparison
from llamalab.records.record import Record
from llamalab.records.record_json import record_to_json
from llamalab.report import OURS, render_gallery
from llamalab.report.gallery import NamedRecord, errors_table, records_under
from tests.report.sample import sample_record
from tests.report.test_report import HOSTILE, Page


@pytest.fixture(scope="module")
def records(record: Record) -> list[NamedRecord]:
    slower = [
        dataclasses.replace(run, parts=[
            dataclasses.replace(part, samples_s=[2 * one for one in part.samples_s]) for part in run.parts
        ]) for run in record.passes
    ]  # fmt: skip
    return [NamedRecord("fast", record), NamedRecord("slow", dataclasses.replace(record, passes=slower))]


def test_the_gallery_has_the_error_of_every_pass(records: list[NamedRecord]) -> None:
    table = errors_table(records)
    expected = [phase.error for one in records for phase in Comparison(one.record).phases]
    assert [row["error"] for row in table.rows] == expected
    html = render_gallery(records)
    page = Page(html)
    assert page.open == []
    assert OURS in html[:2_000]
    assert len(page.values("id")) == len(set(page.values("id")))
    assert all(row["record"] in page.text() for row in table.rows)
    assert len(re.findall(r"<g><title>(?:fast|slow), (?:prefill|decode): predicted", html)) == 4
    assert render_gallery(records) == html


def test_hostile_names_stay_text_over_records(record: Record) -> None:
    named = [NamedRecord(HOSTILE, record), NamedRecord("b", record)]
    page = Page(render_gallery(named))
    assert sum(tag == "script" for tag, _ in page.elements) == 4
    assert "img" not in {tag for tag, _ in page.elements}


def test_the_verb_finds_records_at_any_depth_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "records" / "deep"
    folder.mkdir(parents=True)
    (folder / "tiny.json").write_text(record_to_json(sample_record("tiny")))
    (folder / "other.json").write_text('{"a": 1}')
    (folder / "broken.json").write_text('{"parameters_measured": 1}')
    assert main(["gallery", "records", "--out", "page.html"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert all(line.startswith("deep/tiny") for line in said.out.splitlines())
    assert "broken.json is left out" in said.err
    assert OURS in Path("page.html").read_text()[:2_000]
    assert [one.name for one in records_under(folder, on_broken=lambda _: None)] == ["tiny"]
    assert main(["gallery", "absent"]) == 3
    assert "the folder of records must exist" in capsys.readouterr().err
