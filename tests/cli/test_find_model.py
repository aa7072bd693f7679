"""--model takes a preset, a JSON file, a folder, or a checkpoint of any format, of which headers are read."""

import json
from pathlib import Path

import pytest

from llamalab.arch import LlamaArch
from llamalab.cli.find_model import find_model, model_to_measure, short_name
from llamalab.errors import InputError, MissingError, UnknownNameError
from llamalab.presets import PRESETS
from tests.cli.calls import Capture, loaded, refused

PARAMS = {"dim": 4096, "n_layers": 32, "n_heads": 32, "multiple_of": 256, "norm_eps": 1e-5, "vocab_size": -1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "my-llama"
    place.mkdir()
    (place / "params.json").write_text(json.dumps(PARAMS))
    return place


def test_a_preset_an_architecture_a_file_and_a_folder(folder: Path) -> None:
    arch = PRESETS["7b"].arch
    assert find_model("7b") == ("7b", arch)
    assert find_model(arch)[1] == arch
    assert find_model(str(folder / "params.json"))[1] == arch
    assert find_model(str(folder))[1] == arch
    assert short_name(str(folder)) == short_name(str(folder / "params.json")) == "my-llama"


@pytest.mark.parametrize("verb", ["kv", "params", "flops", "predict", "roofline", "taps", "train-memory"])
def test_every_calculator_takes_a_folder(capsys: Capture, folder: Path, verb: str) -> None:
    data = loaded(capsys, verb, "--model", str(folder))
    preset = loaded(capsys, verb, "--model", "7b")
    assert {key for key in data if data[key] != preset[key]} <= {"model", "points"}


@pytest.mark.shared
def test_a_checkpoint_is_read_by_its_header(shared_real: Path) -> None:
    name, arch = find_model(str(shared_real / "stories260K.bin"))
    assert name.endswith("stories260K.bin")
    assert (arch.dim, arch.n_layers, arch.n_kv_heads, arch.vocab_size) == (64, 5, 4, 512)
    assert short_name(name) == "stories260K"


@pytest.mark.shared
def test_measuring_takes_a_checkpoint_with_its_weights(shared_real: Path, folder: Path, capsys: Capture) -> None:
    name, arch, weights = model_to_measure(str(shared_real / "stories260K.bin"))
    assert weights is not None
    assert (name, arch) == ("stories260K", weights.arch)
    assert "note: the weights are those of" in capsys.readouterr().err
    assert model_to_measure("7b") == ("7b", PRESETS["7b"].arch, None)
    assert capsys.readouterr().err == ""
    assert model_to_measure(str(folder))[2] is None
    assert "the weights are random, of the sizes of" in capsys.readouterr().err


def test_what_is_none_of_these_is_refused(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 7b"):
        find_model("7bb")
    with pytest.raises(MissingError, match="no file"):
        find_model("absent/config.json")
    with pytest.raises(InputError, match="nor is there a file"):
        find_model("absent/folder")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    assert "must be of a format that llamalab reads" in refused(capsys, "kv", "--model", str(tmp_path / "notes.txt"))
    assert "model" in refused(capsys, "kv", "--model", "a\0b")


def test_an_architecture_keeps_its_own_sizes() -> None:
    arch = LlamaArch(64, 2, 4, 4, 128, 100)
    assert find_model(arch) == ("2 layers of 64", arch)
