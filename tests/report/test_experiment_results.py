"""Answers of experiments: read, ordered, refused where they are none, and drawn."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments.common.folders import RECORDS
from llamalab.errors import FormatError
from llamalab.records.record import Record
from llamalab.report import bounded, render
from llamalab.report.charts.base import draw_svg
from llamalab.report.charts.experiment_results import CHARTS
from llamalab.report.experiment_results import ORDER, ExperimentResult, read_result, recorded_results
from tests.report.sample import environment

RECORDED = recorded_results(RECORDS)


def test_what_is_recorded_has_a_place_and_every_chart_has_a_record() -> None:
    assert set(CHARTS) <= {answer.experiment for answer in RECORDED} <= set(ORDER)


def test_answers_come_in_reading_order() -> None:
    places = [ORDER.index(answer.experiment) for answer in RECORDED]
    assert places == sorted(places)


@pytest.mark.parametrize("answer", RECORDED, ids=[f"{one.experiment} {one.device}" for one in RECORDED])
def test_an_answer_says_its_question_and_is_drawn_where_it_has_a_chart(answer: ExperimentResult) -> None:
    assert answer.question.endswith(("?", "."))
    assert len(answer.conclusion) > 40
    assert answer.device in answer.origin
    if answer.experiment not in CHARTS:
        return  # it says all in words
    svg = draw_svg(CHARTS[answer.experiment], answer, prefix=answer.experiment)
    assert svg.startswith('<div class="panels"><svg')
    assert svg == draw_svg(CHARTS[answer.experiment], answer, prefix=answer.experiment)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"experiment": "x"}', "\x00"])
def test_what_is_no_answer_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gqa_groups.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=r"gqa_groups\.json must be the answer of an experiment"):
        read_result(path)


def test_other_files_and_absent_folders_are_passed_over(tmp_path: Path) -> None:
    assert recorded_results(tmp_path / "absent") == []
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "7b-cpu.json").write_text("{}", encoding="utf-8")
    answer = {"experiment": "gqa_groups", "question": "?", "conclusion": "c", "device": "d", "made_on": "day"}
    (tmp_path / "device" / "gqa_groups.json").write_text(json.dumps(answer), encoding="utf-8")
    assert [one.experiment for one in recorded_results(tmp_path)] == ["gqa_groups"]


def test_a_page_that_would_be_too_large_leaves_the_largest_plots_of_the_appendix_out(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = "Its plot is left out: the page would be too large with it."

    def page(most: int) -> str:
        monkeypatch.setattr(bounded, "PAGE_BYTES", most)
        return render(record, [], RECORDED)

    whole = page(1 << 30)
    assert left_out not in whole
    smaller = page(len(whole.encode()) - 1)
    assert smaller.count(left_out) == 1
    some = page(len(whole.encode()) - 40_000)
    assert 1 < some.count(left_out) < len(CHARTS)
    assert len(some.encode()) <= len(whole.encode()) - 40_000
    small = page(1)
    assert small.count(left_out) >= len(CHARTS)
    assert all(result.conclusion[:30] in small for result in RECORDED if result.conclusion[:30].isascii())


def test_results_of_this_kind_of_machine_come_first_and_badges_name_the_others(record: Record) -> None:
    here = dataclasses.replace(record, environment=environment(device_name=RECORDED[-1].device))
    other = RECORDED[0]._replace(device="Another machine")
    html = render(here, [], [other, *RECORDED[1:]])
    last = html.index('<span class="badge">Another machine</span>')
    assert html.count("this machine&#39;s kind: ") == len(RECORDED) - 1
    assert html.rindex("this machine&#39;s kind: ") < last
