"""What is missing is named with the command that adds it, from the extras that the package declares."""

import tomllib
from pathlib import Path

import pytest

from llamalab import extras
from llamalab.checkpoints.convert import convert
from llamalab.cli import main
from llamalab.errors import MissingError

DECLARED = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]


def test_every_extra_that_users_can_install_is_in_the_table() -> None:
    assert {extra.name for extra in extras.EXTRAS} == set(DECLARED["optional-dependencies"]) - {"dev"}


@pytest.mark.parametrize("extra", extras.EXTRAS, ids=lambda extra: extra.name)
def test_a_missing_module_is_named_with_its_extra(extra: extras.Extra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError) as missing:
        extras.check_extra(extra.name, "what is asked for")
    first = extra.modules[0]
    assert str(missing.value) == (
        f"what is asked for needs the Python package {first}; it is not installed; "
        f'python -m pip install "llamalab[{extra.name}]" adds it'
    )


def test_a_module_is_in_one_extra_of_the_table() -> None:
    modules = [module for extra in extras.EXTRAS for module in extra.modules]
    assert len(modules) == len(set(modules))


def test_onnx_is_looked_for_before_a_checkpoint_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.bin").write_bytes(b"nothing that could be read")
    with pytest.raises(MissingError, match="ONNX needs the Python package onnx"):
        convert(tmp_path / "a.bin", tmp_path / "b.onnx", "onnx")
    assert main(["convert", str(tmp_path / "a.bin"), str(tmp_path / "b.onnx"), "--to", "onnx"]) == 3
    assert 'python -m pip install "llamalab[onnx]" adds it' in capsys.readouterr().err
