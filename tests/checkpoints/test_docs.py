"""docs/checkpoints.md shows real output: its commands are run one after the other and compared.

`LLAMALAB_OVERWRITE=1 pytest tests/checkpoints/test_docs.py` writes the output of today into it.
"""

import shlex
from pathlib import Path

import pytest

from llamalab.cli import main
from tests.console import replay

DOCS = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"


@pytest.mark.shared
def test_every_command_prints_what_is_shown(
    tmp_path: Path, shared_real: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("stories260K.bin", "tok512.bin"):
        (tmp_path / name).symlink_to(shared_real / name)
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> str:
        assert main(shlex.split(command)[1:]) == 0
        return capsys.readouterr().out

    replay(DOCS, run, commands=6)
