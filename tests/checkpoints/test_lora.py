"""Adapters written by PEFT and merged by it, against ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.checkpoints import load, survey
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.lora import merged, read_adapter
from llamalab.errors import FormatError, MissingError
from tests.checkpoints.samples import ARCH, random_model, write_config
from tests.checkpoints.test_fuzz import write_safetensors_sample
from tests.checkpoints.test_huggingface import hf_named
from tests.model.hf_reference import hf_model

TOKENS_BT = torch.tensor([[1, 2, 37, 5, 9], [3, 3, 3, 3, 0]])
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MODULE = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"


def base_folder(folder: Path) -> Path:
    write_config(folder, ARCH)
    write_safetensors_sample(folder / "model.safetensors", hf_named(random_model(ARCH), ARCH))
    return folder


def adapter(folder: Path, tensors: dict[str, torch.Tensor], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "bias": "none", "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    write_safetensors_sample(folder / "adapter_model.safetensors", tensors)
    return folder


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")  # PEFT's own, of packages it may use
@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 5}}], ids=["plain", "rs", "ranks"]
)
def test_what_peft_saves_gives_the_logits_of_peft(tmp_path: Path, settings: dict[str, Any]) -> None:
    import peft

    torch.manual_seed(5)
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=ALL, init_lora_weights=False, **settings)
    tuned = peft.get_peft_model(hf_model(random_model(ARCH)), config)
    tuned.save_pretrained(tmp_path / "adapter")
    model = load(base_folder(tmp_path / "base"), lora=tmp_path / "adapter")
    with torch.no_grad():
        expected = tuned.eval()(TOKENS_BT).logits
        torch.testing.assert_close(model(TOKENS_BT), expected, rtol=1e-4, atol=5e-5)
        assert (random_model(ARCH)(TOKENS_BT) - expected).abs().max() > 0.1


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_with_its_own_embeddings(tmp_path: Path) -> None:
    import peft

    reference = hf_model(random_model(ARCH))
    torch.manual_seed(5)
    reference.resize_token_embeddings(51, mean_resizing=False)
    config = peft.LoraConfig(r=2, target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"])
    tuned = peft.get_peft_model(reference, config)
    tuned.save_pretrained(tmp_path / "adapter")
    model = load(base_folder(tmp_path / "base"), lora=tmp_path / "adapter")
    assert model.arch.vocab_size == 51
    tokens_BT = torch.tensor([[1, 50, 40]])
    with torch.no_grad():
        torch.testing.assert_close(model(tokens_BT), tuned.eval()(tokens_BT).logits, rtol=1e-4, atol=5e-5)


def test_the_change_is_alpha_over_r_times_b_a(tmp_path: Path) -> None:
    tensors = {MODULE.format(1, "v_proj", "A"): torch.randn(2, 24), MODULE.format(1, "v_proj", "B"): torch.randn(8, 2)}
    base = random_model(ARCH, torch.bfloat16)
    weights = merged(weights_of(base), adapter(tmp_path / "a", tensors))
    name = "layers.1.attention.wv.weight"
    down, up = tensors.values()
    expected = (base.state_dict()[name].float() + 1.5 * up @ down).bfloat16()
    torch.testing.assert_close(weights.fetch(name), expected)
    other = "layers.0.attention.wv.weight"
    torch.testing.assert_close(weights.fetch(other), base.state_dict()[other], rtol=0, atol=0)


def good() -> dict[str, torch.Tensor]:
    return {MODULE.format(0, "q_proj", "A"): torch.ones(2, 24), MODULE.format(0, "q_proj", "B"): torch.ones(24, 2)}


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        (good(), {"peft_type": "IA3"}, "peft_type .* 'LORA'; got 'IA3'"),
        (good(), {"use_dora": True}, "use_dora"),
        (good(), {"bias": "all"}, "bias"),
        (good(), {"alpha_pattern": {"q_proj": 9}}, "alpha_pattern"),
        (good(), {"lora_alpha": "big"}, "lora_alpha"),
        (good() | {MODULE.format(2, "q_proj", "A"): torch.ones(2, 24)}, {}, "layers.2"),
        ({MODULE.format(0, "q_proj", "A"): torch.ones(2, 24)}, {}, "must hold pairs"),
        (good() | {MODULE.format(0, "q_proj", "B"): torch.ones(24, 3)}, {}, r"\(24, r\)"),
        (good() | {MODULE.format(0, "q_proj", "A"): torch.ones(2, 23)}, {}, r"\(r, 24\)"),
        ({}, {}, "must hold pairs .* got none"),
        (
            good() | {"base_model.model.model.embed_tokens.weight": torch.ones(51, 24)},
            {},
            "tok_embeddings.weight of one size",
        ),
    ],
)
def test_adapters_that_do_not_belong(
    tmp_path: Path, tensors: dict[str, torch.Tensor], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        merged(weights_of(random_model(ARCH)), adapter(tmp_path / "a", tensors, **changes))


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", good())
    assert [entry.shape for entry in survey(folder).stored] == [(2, 24), (24, 2)]
    with pytest.raises(FormatError, match="is a LoRA adapter"):
        load(folder)
    with pytest.raises(MissingError, match="must be a folder"):
        read_adapter(tmp_path / "none", ARCH)
