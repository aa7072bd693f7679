"""Checkpoints of training: a run in two parts ends in the bits of a run in one."""

from pathlib import Path

import pytest
import torch

from llamalab.checkpoints import load
from llamalab.checkpoints.text_side import TextSource
from llamalab.errors import FormatError
from llamalab.train import saved
from tests.train.samples import trainer


def nothing(run: Path) -> TextSource:
    return TextSource(None, run)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_two_times_five_steps_are_ten(tmp_path: Path, dtype: str) -> None:
    whole, first, second = trainer(dtype), trainer(dtype), trainer(dtype, seed=1)
    expected = [whole.step() for _ in range(10)]
    taken = [first.step() for _ in range(5)]
    saved.save(tmp_path, first, nothing(tmp_path))
    saved.resume(tmp_path, second)
    taken += [second.step() for _ in range(5)]
    assert taken == expected
    state, other = whole.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    kept, again = saved.optimizer_tensors(whole), saved.optimizer_tensors(second)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    assert sum(name.startswith("master/") for name in kept) == (0 if dtype == "fp32" else len(state))


def test_a_checkpoint_is_a_model_and_replaces_the_one_before(tmp_path: Path) -> None:
    learning = trainer()
    for steps in (1, 2):
        learning.step()
        folder = saved.save(tmp_path, learning, nothing(tmp_path))
        assert saved.steps_saved(tmp_path) == [steps]
    model = load(folder)
    tokens = torch.arange(8)[None]
    assert torch.equal(model(tokens), learning.model(tokens))


def test_another_optimiser_s_state_is_refused(tmp_path: Path) -> None:
    learning = trainer()
    learning.step()
    folder = saved.save(tmp_path, learning, nothing(tmp_path))
    (folder / "optimizer.safetensors").write_bytes(b"{}")
    with pytest.raises(FormatError, match="must be the state of this model's optimiser"):
        saved.resume(tmp_path, trainer())
    assert saved.steps_saved(tmp_path / "absent") == []
