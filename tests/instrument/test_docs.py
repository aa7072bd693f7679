"""docs/instrumentation.md shows real output: its commands and its Python are run and compared.

`LLAMALAB_OVERWRITE=1 pytest tests/instrument/test_docs.py` writes the commands' output of today into it.
"""

import doctest
import shlex
from pathlib import Path

import pytest
import torch

from llamalab.cli import main
from tests.console import replay

PAGE = Path(__file__).resolve().parents[2] / "docs" / "instrumentation.md"


def test_every_command_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def run(command: str) -> str:
        assert main(shlex.split(command)[1:]) == 0
        return capsys.readouterr().out

    replay(PAGE, run, commands=2)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_python_does_what_is_shown() -> None:
    torch._dynamo.reset()
    failed, run = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert run > 30
    assert failed == 0
