"""What load does whatever the format."""

from pathlib import Path

import pytest
import torch

import llamalab
from llamalab import checkpoints
from llamalab.checkpoints import CHECKPOINT_FORMATS, read, survey
from llamalab.checkpoints.checkpoint import Weights
from llamalab.errors import DoesNotFitError, FormatError, MissingError
from tests.checkpoints.samples import ARCH, random_model
from tests.checkpoints.test_convert import make


@pytest.mark.parametrize("form", ["hf", "meta", "gguf", "llama2c"])
def test_names_say_nothing(tmp_path: Path, form: str) -> None:
    path = make(form, tmp_path / "model.zip")
    torch.testing.assert_close(read(path)[1], dict(random_model(ARCH).state_dict()), rtol=0, atol=0)
    assert [one.recognises(path) for one in CHECKPOINT_FORMATS].count(True) == 1


@pytest.mark.parametrize("form", ["hf", "meta", "gguf", "llama2c"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_every_format_in_every_dtype(tmp_path: Path, form: str, dtype: str) -> None:
    model = llamalab.load(make(form, tmp_path / "model"), dtype=dtype)
    expected = random_model(ARCH).to(checkpoints.activation_dtype(dtype))
    torch.testing.assert_close(dict(model.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError(), RuntimeError("can't allocate memory")])
def test_memory_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fetch(*_: object, **__: object) -> torch.Tensor:
        raise error

    weights = Weights(ARCH, fetch, lambda _: torch.float32, torch.float32)
    monkeypatch.setattr(checkpoints, "open_weights", lambda _: weights)
    size = 4 * sum(weight.numel() for weight in random_model(ARCH).parameters())
    with pytest.raises(DoesNotFitError, match=f"memory of cpu; they take {size / 1024:.2f} KiB"):
        llamalab.load(tmp_path)


def test_another_failure_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("a bug")

    monkeypatch.setattr(checkpoints, "open_weights", lambda _: Weights(ARCH, fetch, lambda _: torch.half, torch.half))
    with pytest.raises(RuntimeError, match="a bug"):
        llamalab.load(tmp_path)


def test_folders_that_are_not_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FormatError, match="a folder without its files"):
        survey(tmp_path)
    with pytest.raises(MissingError, match="there is no"):
        survey(tmp_path / "none")
