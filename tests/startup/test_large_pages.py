"""Large pages: asked for where nobody has said otherwise."""

import os

import pytest

from llamalab.cli import main
from llamalab.startup.large_pages import SWITCH, ask_for_large_pages


def test_what_a_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    ask_for_large_pages()
    assert os.environ[SWITCH] == "0"


def test_every_command_asks_for_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(SWITCH, "")
    monkeypatch.delenv(SWITCH)
    assert main(["params", "--model", "tiny"]) == 0
    assert os.environ[SWITCH] == "1"
