"""docs/checkpoints.md shows real output: its commands are run one after the other and compared.

`LLAMALAB_OVERWRITE=1 pytest tests/checkpoints/test_docs.py` writes the output of today into it.
"""

import os
import re
import shlex
from pathlib import Path

import pytest

from llamalab.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"
EXAMPLE = re.compile(r"^\$ (llamalab .*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


@pytest.mark.shared
def test_every_command_prints_what_is_shown(
    tmp_path: Path, shared_real: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("stories260K.bin", "tok512.bin"):
        (tmp_path / name).symlink_to(shared_real / name)
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text(encoding="utf-8")
    examples = [(match[1], match[2]) for match in EXAMPLE.finditer(text)]
    assert len(examples) == 6
    for command, shown in examples:
        assert main(shlex.split(command)[1:]) == 0
        printed = capsys.readouterr().out
        if os.environ.get("LLAMALAB_OVERWRITE"):
            text = text.replace(f"$ {command}\n{shown}", f"$ {command}\n{printed}")
        else:
            assert printed == shown
    if os.environ.get("LLAMALAB_OVERWRITE"):
        DOCS.write_text(text, encoding="utf-8")
