from pathlib import Path

import pytest
import torch

from llamalab.checkpoints import load, resize_vocabulary, write_llama2c
from llamalab.errors import InputError
from tests.checkpoints.samples import ARCH, TIED, random_model


@pytest.mark.parametrize("arch", [ARCH, TIED], ids=["untied", "tied"])
def test_new_tokens_are_the_mean_and_old_ones_stay(arch: object) -> None:
    model = random_model(arch)  # type: ignore[arg-type]
    larger = resize_vocabulary(model, 55_296)
    assert larger.arch == model.arch.replace(vocab_size=55_296)
    table_VD = model.tok_embeddings.weight
    torch.testing.assert_close(larger.tok_embeddings.weight[:38], table_VD, rtol=0, atol=0)
    torch.testing.assert_close(larger.tok_embeddings.weight[38:], table_VD.mean(0).expand(55_258, -1))
    tokens_BT = torch.tensor([[1, 2, 37]])
    logits, expected = larger(tokens_BT), model(tokens_BT)
    torch.testing.assert_close(logits[..., :38], expected)
    torch.testing.assert_close(logits[..., 55_000], expected.mean(-1))
    torch.testing.assert_close(resize_vocabulary(larger, 38)(tokens_BT), expected)


def test_a_resized_model_is_saved_and_loaded(tmp_path: Path) -> None:
    larger = resize_vocabulary(random_model(ARCH), 300)
    write_llama2c(tmp_path / "model.bin", larger)
    torch.testing.assert_close(load(tmp_path / "model.bin").state_dict(), larger.state_dict(), rtol=0, atol=0)


def test_no_vocabulary_is_no_vocabulary() -> None:
    with pytest.raises(InputError, match="vocab_size"):
        resize_vocabulary(random_model(ARCH), 0)
