"""Families beside Llama 2 as GGUF: llama.cpp computes and writes the same from the files that are written.

From a Hugging Face folder to GGUF, as a user would; what cannot be said is refused in one sentence.
"""

from pathlib import Path
from statistics import median

import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.convert import Wishes, convert
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.errors import InputError
from tests.checkpoints.test_llama_cpp_weights import Server, differences, same_text
from tests.model.families import FAMILIES
from tests.model.shrunk import small_model, some_tokens

pytestmark = pytest.mark.reference
ARCHITECTURES = {
    "llama-3.1": "llama", "linear": "llama", "yarn": "llama", "longrope": "llama", "biases": "llama",
    "nemo, heads wider than dim": "llama", "qwen2.5, tied": "qwen2", "qwen3": "qwen3", "phi-3": "phi3",
    "phi-4-mini": "phi3",
}  # fmt: skip
REFUSED = {
    "dynamic": "a RoPE stretched by dynamic", "yarn, ramps between frequencies": "a ramp of YaRN",
    "mistral, window shorter than the text": "window", "qwen2.5, windows in some layers": "window, full_layers",
    "qwen3, biased": "qk_norm",
}  # fmt: skip


def arch_of(name: str) -> LlamaArch:
    """The heads of Qwen2 are always dim / n_heads wide."""
    return FAMILIES[name].replace(head_dim=10) if ARCHITECTURES[name] == "qwen2" else FAMILIES[name]


def of_512_tokens(name: str) -> LlamaArch:
    arch = arch_of(name).replace(vocab_size=512)
    # llama.cpp does without Phi-3's window: let it be longer than the text.
    return arch if arch.window is None else arch.replace(window=100)


@pytest.mark.shared
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_llama_cpp_writes_the_same(tmp_path: Path, shared_real: Path, name: str) -> None:
    model, path = small_model(of_512_tokens(name)), tmp_path / "m.gguf"
    (tmp_path / "hf").mkdir()
    write_huggingface(tmp_path / "hf", weights_of(model), dtype=None)
    convert(tmp_path / "hf", path, "gguf", Wishes(tokenizer=str(shared_real / "tok512.bin")))
    loaded = load(path)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    prompt = some_tokens(1, 24, 512)[0].tolist()
    choices = Server(path).choices(prompt, 6)
    assert median(differences(loaded, prompt, choices)) < 2e-3
    assert same_text(loaded, prompt, choices) == 6
    with torch.no_grad():
        torch.testing.assert_close(loaded(torch.tensor([prompt])), model(torch.tensor([prompt])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_architecture_comes_back(tmp_path: Path, name: str) -> None:
    import gguf

    model, path = small_model(arch_of(name)), tmp_path / "m.gguf"
    (tmp_path / "hf").mkdir()
    write_huggingface(tmp_path / "hf", weights_of(model), dtype=None)
    convert(tmp_path / "hf", path, "gguf")
    field = gguf.GGUFReader(path).get_field("general.architecture")
    assert field is not None
    assert field.contents() == ARCHITECTURES[name]
    arch, again = load(path).arch, model.arch
    if again.rope_scaling is not None and arch.rope_scaling is not None:  # fp32 in the file
        assert arch.rope_scaling.attention_factor == pytest.approx(again.rope_scaling.attention_factor, rel=1e-7)
        attention = again.rope_scaling.attention_factor
        arch = arch.replace(rope_scaling=arch.rope_scaling._replace(attention_factor=attention))
    assert arch == again


@pytest.mark.parametrize("name", REFUSED)
def test_what_gguf_cannot_say(tmp_path: Path, name: str) -> None:
    (tmp_path / "hf").mkdir()
    write_huggingface(tmp_path / "hf", weights_of(small_model(FAMILIES[name])), dtype=None)
    with pytest.raises(InputError, match=f"has no word for .*{REFUSED[name]}"):
        convert(tmp_path / "hf", tmp_path / "m.gguf", "gguf")
    assert not (tmp_path / "m.gguf").exists()
