import json
from pathlib import Path

import pytest

from llamalab.arch import LlamaArch
from llamalab.arch.files import read_arch
from llamalab.cli import main
from llamalab.errors import FormatError
from llamalab.presets import PRESETS


@pytest.mark.parametrize("name", ["7b", "llama-3.1-8b", "gemma-2-9b", "mixtral-8x7b", "qwen3-8b"])
def test_an_architecture_is_read_back_from_what_it_gave(tmp_path: Path, name: str) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(PRESETS[name].arch.as_dict()))
    assert read_arch(str(path)) == PRESETS[name].arch


def test_a_field_can_be_tried_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(LlamaArch(64, 2, 4, 2, 96, 100, qk_norm=True).as_dict()))
    assert main(["flops", "--model", str(path), "--prompt", "8", "--format", "csv"]) == 0
    assert "q_norm" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "message"), [
    ({"ffn_dim": "wide"}, "ffn_dim of LlamaArch must be"), ({"unheard_of": 1}, "unheard_of"), ({"n_heads": 3}, "must"),
])  # fmt: skip
def test_what_is_no_architecture_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(LlamaArch(64, 2, 4, 2, 96, 100).as_dict() | change))
    with pytest.raises(FormatError, match=message):
        read_arch(str(path))
