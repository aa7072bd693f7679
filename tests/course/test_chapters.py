"""The course is of today: its code is the source, its commands print what is shown, its answers run."""

import contextlib
import doctest
import io
import os
import re
import shlex
from pathlib import Path

import pytest
import torch

import llamalab
from llamalab.cli import main
from tests.console import replay
from tools import course_pictures
from tools.course import CHAPTERS, CONCLUSION, PICTURE, SOURCE, cells_of, filled

PAGES = sorted(CHAPTERS.glob("*.md"))
OVERWRITE = bool(os.environ.get("LLAMALAB_OVERWRITE"))


def run(command: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        assert main(shlex.split(command)[1:]) == 0
    return printed.getvalue()


def test_there_are_twelve_in_order() -> None:
    assert [page.name[:2] for page in PAGES] == [f"{number:02d}" for number in range(1, 13)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_and_conclusions_are_todays(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if OVERWRITE:
        page.write_text(filled(text), encoding="utf-8")
    else:
        assert SOURCE.search(text)
        assert text == filled(text), "LLAMALAB_OVERWRITE=1 make course writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_print_what_is_shown(page: Path) -> None:
    replay(page, run, commands=page.read_text(encoding="utf-8").count("\n$ llamalab "))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_answers_run(page: Path) -> None:
    answers = "\n\n".join(re.findall(r"```pycon\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    names = {"llamalab": llamalab, "torch": torch}
    tried = doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(answers, names, page.stem, str(page), 0))
    assert tried.failed == 0
    assert tried.attempted >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_chapter_has_all_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    body, _, rest = text.partition("## Exercises")
    questions, _, answers = rest.partition("## Answers")
    assert re.search(r"^    \S", body, re.MULTILINE), "a formula, indented"
    assert "\n$ llamalab " in body
    assert "```pycon" in body, "a small example"
    assert len(re.findall(r"^\d\. ", questions, re.MULTILINE)) == answers.count("```pycon") == 3
    assert PICTURE.search(body)
    assert all((CHAPTERS / found[2]).is_file() for found in PICTURE.finditer(text))
    blocks = text.count("```pycon") + text.count("```console")
    assert sum(kind == "code" for kind, _ in cells_of(text)) == 1 + blocks  # set-up first


def test_every_experiment_of_the_lab_has_a_chapter() -> None:
    told = {found[1] for page in PAGES for found in CONCLUSION.finditer(page.read_text(encoding="utf-8"))}
    assert told >= {
        "attention_by_hand", "positions", "norms", "feed_forward", "optimiser", "translation", "gqa_uptraining",
        "kv_cache_onoff", "flash_vs_naive",
    }  # fmt: skip


def test_pictures_are_todays(tmp_path: Path) -> None:
    drawn = course_pictures.draw(tmp_path)
    assert {path.name for path in drawn} == {path.name for path in course_pictures.PICTURES.glob("*.svg")}
    stale = [path.name for path in drawn if path.read_text() != (course_pictures.PICTURES / path.name).read_text()]
    assert stale == [], "python -m tools.course_pictures draws them anew"


def test_a_notebook_has_its_pictures_in_it() -> None:
    cells = cells_of((CHAPTERS / "04-positions.md").read_text(encoding="utf-8"))
    shown = [text for kind, text in cells if kind == "markdown" and "](data:image/svg+xml;base64," in text]
    assert shown
    assert not any("../images" in text for _, text in cells)
