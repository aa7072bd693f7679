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
from tools.course import CHAPTERS, SOURCE, cells_of, filled

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
def test_code_is_the_source(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if OVERWRITE:
        page.write_text(filled(text), encoding="utf-8")
    else:
        assert SOURCE.search(text)
        assert text == filled(text), "LLAMALAB_OVERWRITE=1 make course writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_print_what_is_shown(page: Path) -> None:
    replay(page, run, commands=1)


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
    questions = text.partition("## Exercises")[2].partition("## Answers")[0]
    assert len(re.findall(r"^\d\. ", questions, re.MULTILINE)) == text.count("```pycon") == 3
    assert "```text" in text or "![" in text
    assert sum(kind == "code" for kind, _ in cells_of(text)) == 5  # set-up, the command, three answers
