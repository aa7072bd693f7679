"""docs/instrumentation.md shows real output: its commands and its Python are run and compared.

`LLAMALAB_OVERWRITE=1 pytest tests/instrument/test_docs.py` writes the commands' output of today into it.
"""

import doctest
import os
import re
import shlex
from pathlib import Path

import pytest
import torch

from llamalab.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "instrumentation.md"
EXAMPLE = re.compile(r"^\$ (llamalab .*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


def test_every_command_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    examples = [(match[1], match[2]) for match in EXAMPLE.finditer(text)]
    assert len(examples) == 2
    for command, shown in examples:
        assert main(shlex.split(command)[1:]) == 0
        printed = capsys.readouterr().out
        if os.environ.get("LLAMALAB_OVERWRITE"):
            text = text.replace(f"$ {command}\n{shown}", f"$ {command}\n{printed}")
        else:
            assert printed == shown
    if os.environ.get("LLAMALAB_OVERWRITE"):
        PAGE.write_text(text, encoding="utf-8")


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_python_does_what_is_shown() -> None:
    torch._dynamo.reset()
    failed, run = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert run > 30
    assert failed == 0
