"""Quantised layers from checkpoints: the file's own codes where it has them, ours where it has not."""

from pathlib import Path

import pytest
import torch

from llamalab import build
from llamalab.arch import LlamaArch
from llamalab.checkpoints import gguf, load, open_weights
from llamalab.checkpoints.checkpoint import StoredTensor, weights_of
from llamalab.checkpoints.gguf_write import write_gguf
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.errors import UnknownNameError
from llamalab.model.quantised.weights import kept_of, quantised_layers
from llamalab.units import QUANTISED

ARCH = LlamaArch(dim=64, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=96, vocab_size=80)
TOKENS = torch.arange(12).view(2, 6)


@pytest.fixture(scope="module")
def gguf_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, weights = tmp_path_factory.mktemp("gguf"), weights_of(build(ARCH, dtype="fp32", seed=4))
    files = {kind: folder / f"{kind}.gguf" for kind in ("q8_0", "q4_0")}
    for kind, path in files.items():
        write_gguf(path, weights, dtype=None, quantised=kind, words=None)
    return files


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_codes_of_a_gguf_file_are_taken_without_a_change(gguf_files: dict[str, Path], kind: str) -> None:
    wide, model = load(gguf_files[kind], dtype="fp32"), load(gguf_files[kind], dtype="fp32", weight_dtype=kind)
    for name, weight in wide.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), wide(TOKENS), rtol=0, atol=1e-5)


def test_they_are_never_widened(gguf_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    widened, real = [], gguf._dequantised

    def noted(raw: torch.Tensor, entry: StoredTensor, dtype: torch.dtype) -> torch.Tensor:
        widened.append(entry.name)
        return real(raw, entry, dtype)

    monkeypatch.setattr(gguf, "_dequantised", noted)
    load(gguf_files["q4_0"], dtype="bf16", weight_dtype="q4_0")
    assert all(name.startswith("token_embd") or "norm" in name for name in widened), widened


@pytest.mark.parametrize("storage", QUANTISED)
def test_any_checkpoint_is_coded_as_its_model_would_be(tmp_path: Path, storage: str) -> None:
    write_huggingface(tmp_path, weights_of(build(ARCH, dtype="bf16", seed=4)), dtype=None)
    model, wide = load(tmp_path, weight_dtype=storage), load(tmp_path)
    kept = kept_of(model)
    assert kept is not None
    assert kept.storage == storage
    assert len(quantised_layers(model)) == 7 * ARCH.n_layers + 1
    with torch.no_grad():
        error = (model(TOKENS) - wide(TOKENS)).abs().max() / wide(TOKENS).abs().max()
    assert error < (0.05 if storage in ("int8", "q8_0") else 0.5)


def test_biases_and_a_tied_head_stay_wide(tmp_path: Path) -> None:
    arch = ARCH.replace(qkv_bias=True, tied_embeddings=True)
    source = build(arch, dtype="fp32", seed=4)
    write_huggingface(tmp_path, weights_of(source), dtype=None)
    model = load(tmp_path, weight_dtype="int8")
    assert len(quantised_layers(model)) == 7 * ARCH.n_layers
    assert torch.equal(model.layers[1].attention.wk.bias, source.layers[1].attention.wk.bias)


def test_codes_of_another_storage_are_coded_anew(gguf_files: dict[str, Path]) -> None:
    assert open_weights(gguf_files["q4_0"]).codes("output.weight") is not None
    model = load(gguf_files["q4_0"], weight_dtype="int8")
    assert {layer.group for layer in quantised_layers(model)} == {64, 96}


def test_another_storage_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="int4"):
        load(tmp_path / "none", weight_dtype="int5")
