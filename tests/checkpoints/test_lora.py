"""Adapters written by PEFT and merged by it, against ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load, survey
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.lora import merged, read_adapter
from llamalab.errors import FormatError, MissingError
from tests.checkpoints.samples import ARCH, TIED, random_model, write_config
from tests.checkpoints.test_fuzz import write_safetensors_sample
from tests.checkpoints.test_huggingface import hf_named
from tests.model.hf_reference import hf_model

TOKENS_BT = torch.tensor([[1, 2, 37, 5, 9], [3, 3, 3, 3, 0]])
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENS = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
MODULE = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"


def base_folder(folder: Path, arch: LlamaArch = ARCH) -> Path:
    write_config(folder, arch)
    write_safetensors_sample(folder / "model.safetensors", hf_named(random_model(arch), arch))
    return folder


def adapter(folder: Path, tensors: dict[str, torch.Tensor], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "bias": "none", "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    write_safetensors_sample(folder / "adapter_model.safetensors", tensors)
    return folder


# Settings of peft.LoraConfig; `vocab` and `save` are of the model and of save_pretrained.
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rs": {"use_rslora": True},
    "alphas": {"alpha_pattern": {"v_proj": 32, "layers.0.self_attn.q_proj": 5}},
    "patterns": {"alpha_pattern": {"^model.layers.1.*q_proj": 32}, "rank_pattern": {"k_proj": 5}, "use_rslora": True},
    "dora": {"use_dora": True},
    "dora of an embedding": {"use_dora": True, "target_modules": ["embed_tokens", "q_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "k_proj"]},
    "both ends": {"target_modules": ["lm_head", "q_proj", "embed_tokens"]},
    "tie kept": {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
    "embedding in full": {"modules_to_save": ["embed_tokens"]},
    "embedding in full, tie kept": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "head in full": {"modules_to_save": ["lm_head"]},
    "norms in full": {"modules_to_save": ["norm", "input_layernorm", "post_attention_layernorm"]},
    "a whole part": {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]},
    "rotated rows in full": {"target_modules": ["v_proj"], "modules_to_save": ["q_proj"]},
    "tokens": {"trainable_token_indices": [3, 37, 5]},
    "tokens of both ends": {"trainable_token_indices": {"embed_tokens": [3, 37], "lm_head": [5, 2]}},
    "tokens of one end, pair at the other": {
        "trainable_token_indices": [3, 5],
        "target_modules": ["lm_head", "q_proj"],
    },
    "head in full, tie kept": {"modules_to_save": ["lm_head"], "ensure_weight_tying": True},
    "dora, ranks and scales": {
        "use_dora": True,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 5},
        "alpha_pattern": {"k_proj": 11},
    },
    "a vocabulary grown by one": {"vocab": 39, "save": {"save_embedding_layers": True}},
    "resized, tie of a head": {
        "vocab": 51,
        "modules_to_save": ["embed_tokens"],
        "save": {"save_embedding_layers": True},
    },
    "biases that are not there": {"bias": "all"},
    "regular expression": {"target_modules": r".*\.1\.self_attn\.(q|v)_proj"},
    "resized, ends in full": {"vocab": 51, "modules_to_save": ["embed_tokens", "lm_head"]},
    "resized": {"vocab": 51, "save": {"save_embedding_layers": True}},
    "resized, tokens": {"vocab": 51, "trainable_token_indices": [3, 50], "save": {"save_embedding_layers": True}},
    "another start": {"init_lora_weights": "orthogonal", "r": 4},
}
RANDOM = ("lora_", "modules_to_save", "trainable_tokens")


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")  # PEFT's own, of packages it may use
@pytest.mark.parametrize("arch", [ARCH, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("case", CASES)
def test_what_peft_saves_gives_the_logits_of_peft(tmp_path: Path, case: str, arch: LlamaArch) -> None:
    import peft

    wanted: dict[str, Any] = {"r": 3, "lora_alpha": 7, "target_modules": ALL} | CASES[case]
    vocab, save = wanted.pop("vocab", None), wanted.pop("save", {})

    def fresh() -> torch.nn.Module:
        reference = hf_model(random_model(arch))
        if vocab is not None:
            torch.manual_seed(0)
            reference.resize_token_embeddings(vocab, mean_resizing=False)
        return reference

    tuned = peft.get_peft_model(fresh(), peft.LoraConfig(**wanted))
    torch.manual_seed(5)
    for name, parameter in tuned.named_parameters():
        if any(part in name for part in RANDOM):
            parameter.data += torch.randn_like(parameter) * 0.2
    tuned.save_pretrained(tmp_path / "adapter", **save)
    model = load(base_folder(tmp_path / "base", arch), lora=tmp_path / "adapter")
    with torch.no_grad():
        reference = fresh()
        without = reference.eval()(TOKENS_BT).logits.clone()
        expected = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter").eval()(TOKENS_BT).logits
    assert (without - expected).abs().max() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS_BT), expected, rtol=1e-4, atol=5e-5)
    assert model.arch.vocab_size == (vocab or arch.vocab_size)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights .* 'pissa' does not"),
        ({"init_lora_weights": "olora"}, "init_lora_weights .* 'olora' does not"),
        ({"init_lora_weights": "pissa_niter_2"}, "init_lora_weights"),
        ({"alora_invocation_tokens": [1, 2], "task_type": "CAUSAL_LM"}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    ],
)
def test_what_peft_saves_and_cannot_be_merged(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    import peft

    tuned = peft.get_peft_model(hf_model(random_model(ARCH)), peft.LoraConfig(target_modules=["q_proj"], **settings))
    tuned.save_pretrained(tmp_path / "adapter")
    with pytest.raises(FormatError, match=message):
        load(base_folder(tmp_path / "base"), lora=tmp_path / "adapter")


@pytest.mark.parametrize("kind", ["plain", "dora", "saved"])
def test_names_with_the_adapters_own_name(tmp_path: Path, kind: str) -> None:
    module = "base_model.model.model.layers.0.mlp.up_proj."
    down, up, weight, magnitude = torch.randn(2, 24), torch.randn(20, 2), torch.randn(20, 24), torch.rand(20)
    tensors, named = {"lora_A.weight": down, "lora_B.weight": up}, {"lora_A.x.weight": down, "lora_B.x.weight": up}
    if kind == "dora":
        tensors, named = (
            tensors | {"lora_magnitude_vector": magnitude}, named | {"lora_magnitude_vector.x.weight": magnitude}
        )  # fmt: skip
    if kind == "saved":
        tensors, named = {"weight": weight}, {"modules_to_save.x.weight": weight, "original_module.weight": down}
    changes = {"use_dora": kind == "dora", "modules_to_save": ["up_proj"] if kind == "saved" else None}
    found = [
        merged(
            weights_of(random_model(ARCH)),
            adapter(tmp_path / str(n), {f"{start}{module}{key}": t for key, t in these.items()}, **changes),
        ).fetch("layers.0.feed_forward.w3.weight")
        for n, (start, these) in enumerate([("", tensors), ("", named), ("module.", named)])
    ]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=0)
    assert not torch.equal(found[0], random_model(ARCH).state_dict()["layers.0.feed_forward.w3.weight"])


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
        (good(), {"lora_bias": True}, "lora_bias .* default"),
        (good(), {"a_setting_of_tomorrow": 3}, "a_setting_of_tomorrow .* default"),
        (good(), {"kasa_config": {"beta": 1}}, "kasa_config"),
        (good(), {"init_lora_weights": "lora_ga"}, "init_lora_weights"),
        (good(), {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "init_lora_weights"),
        (good(), {"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern"),
        (good(), {"alpha_pattern": {"(a+)+b": 3}}, "alpha_pattern"),
        (good(), {"alpha_pattern": {"(": 3}}, "alpha_pattern"),
        (good(), {"rank_pattern": {"q_proj": 3}}, "rank of model.layers.0.self_attn.q_proj must be 3"),
        (good(), {"r": 4}, "must be 4"),
        (good(), {"r": 0}, "at least 1"),
        (good(), {"lora_alpha": "big"}, "lora_alpha"),
        (good(), {"use_rslora": 3}, "use_rslora"),
        (good(), {"trainable_token_indices": [1]}, "must go with rows"),
        (good(), {"trainable_token_indices": ["1"]}, "lists of ids"),
        (good() | {TOKENS: torch.ones(2, 24)}, {"trainable_token_indices": [1]}, "name a row each"),
        (good() | {TOKENS: torch.ones(1, 24)}, {"trainable_token_indices": [38]}, "lie in its shape"),
        (good() | {MODULE.format(0, "q_proj", "B").replace("weight", "bias"): torch.ones(24)}, {}, "lora_B.bias"),
        (good() | {MODULE.format(0, "q_proj", "A").replace("A.", "A.x."): torch.ones(2, 24)}, {}, "two names"),
        (
            {MODULE.format(0, "q_proj", "A").replace("A.", "A.x."): torch.ones(2, 24),
             MODULE.format(0, "q_proj", "B").replace("B.", "B.y."): torch.ones(24, 2)}, {}, "one adapter; it has x, y",
        ),
        (good() | {MODULE.format(2, "q_proj", "A"): torch.ones(2, 24)}, {}, "layers.2"),
        ({MODULE.format(0, "q_proj", "A"): torch.ones(2, 24)}, {}, r"must have lora_A \(r, inputs\)"),
        (good() | {MODULE.format(0, "q_proj", "B"): torch.ones(24, 3)}, {}, r"must have lora_A \(r, inputs\)"),
        (good() | {MODULE.format(0, "q_proj", "A"): torch.ones(2, 23)}, {}, r"shape \(24, 24\); it makes \(24, 23\)"),
        ({}, {}, "must hold pairs .* got none"),
        (
            good() | {"base_model.model.model.embed_tokens.weight": torch.ones(51, 24)},
            {},
            "tok_embeddings.weight and output.weight of one size",
        ),
    ],
)  # fmt: skip
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
