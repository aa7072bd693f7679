"""Checkpoints of the families beside Llama 2: held against transformers, in both directions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.convert import convert
from llamalab.checkpoints.gguf_write import write_gguf
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.errors import InputError
from llamalab.model import Transformer
from tests.model.families import FAMILIES, hf_twin
from tests.model.shrunk import small_model, some_tokens

pytestmark = pytest.mark.reference
TOKENS_BT = some_tokens(2, 24)  # beyond the original context of stretched RoPEs, and beyond windows


def check_same_text(model: Transformer, twin: Any) -> None:
    """Logits of the whole text, and what each writes next if it takes the likeliest token."""
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS_BT), twin(TOKENS_BT).logits, rtol=1e-5, atol=1e-5)
        ours, theirs = TOKENS_BT, TOKENS_BT
        for _ in range(3):
            ours = torch.cat((ours, model(ours)[:, -1:].argmax(-1)), 1)
            theirs = torch.cat((theirs, twin(theirs, use_cache=False).logits[:, -1:].argmax(-1)), 1)
    assert ours.tolist() == theirs.tolist()


def as_its_config_says(arch: LlamaArch) -> LlamaArch:
    """Of a linear RoPE transformers stores no original context, which changes nothing."""
    if arch.rope_scaling is None or arch.rope_scaling.kind != "linear":
        return arch
    return arch.replace(rope_scaling=arch.rope_scaling._replace(original_positions=arch.max_positions))


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> tuple[Transformer, Any]:
    model = small_model(FAMILIES[request.param])
    return model, hf_twin(model)


def test_what_transformers_saves_loads(tmp_path: Path, pair: tuple[Transformer, Any]) -> None:
    model, twin = pair
    twin.save_pretrained(tmp_path, max_shard_size="150KB")
    loaded = load(tmp_path)
    assert loaded.arch == as_its_config_says(model.arch)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    check_same_text(loaded, twin)


def test_transformers_loads_what_is_written(tmp_path: Path, pair: tuple[Transformer, Any]) -> None:
    from transformers import AutoModelForCausalLM

    model, twin = pair
    write_huggingface(tmp_path, weights_of(model), dtype=None, shard_bytes=150_000)
    auto: Any = AutoModelForCausalLM
    read, report = auto.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(read) is type(twin)
    check_same_text(model, read.eval())
    assert load(tmp_path).arch == model.arch


def test_what_no_class_has_is_said(tmp_path: Path) -> None:
    arch = FAMILIES["qwen3"].replace(fused_on_disk=True)
    with pytest.raises(InputError, match=r"of the type llama, mistral, .*; none has .*qk_norm, fused_on_disk as here"):
        write_huggingface(tmp_path, weights_of(small_model(arch)), dtype=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "to", "word"), [("qwen3", "meta", "qk_norm"), ("biases", "llama2c", "ffn_bias"), ("yarn", "meta", "rope")]
)
def test_what_a_format_cannot_say(tmp_path: Path, name: str, to: str, word: str) -> None:
    (tmp_path / "hf").mkdir()
    write_huggingface(tmp_path / "hf", weights_of(small_model(FAMILIES[name])), dtype=None)
    with pytest.raises(InputError, match=f"(no word for|has no) .*{word}"):
        convert(tmp_path / "hf", tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["phi-3", "qwen2.5, tied", "qwen3"])
def test_gguf_keeps_matrices_in_bf16_and_rows_of_fused_ones_in_blocks(tmp_path: Path, name: str) -> None:
    sizes = {"dim": 128, "ffn_dim": 192, "n_heads": 8, "n_kv_heads": 8, "head_dim": 16}
    model = small_model(FAMILIES[name].replace(**sizes), dtype="bf16")
    write_gguf(tmp_path / "m.gguf", weights_of(model), dtype=None, quantised=None, words=None)
    for key, weight in load(tmp_path / "m.gguf").state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[key], rtol=0, atol=0)
    write_gguf(tmp_path / "q.gguf", weights_of(model), dtype=None, quantised="q8_0", words=None)
    for key, weight in load(tmp_path / "q.gguf", dtype="fp32").state_dict().items():
        expected = model.state_dict()[key].float()
        torch.testing.assert_close(weight, expected, rtol=0, atol=float(expected.abs().max()) / 200)
