"""A config.json is read as transformers reads it, or refused by name with what is missing."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from llamalab.arch import LlamaArch
from llamalab.arch.files import read_arch
from llamalab.arch.hf_configs.config import from_hf_config
from llamalab.arch.parts import Experts, RopeScaling
from llamalab.errors import FormatError
from llamalab.presets import PRESETS

SIZES = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 32,
    "vocab_size": 32000,
}  # fmt: skip
LLAMA = SIZES | {"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_scaling": None}


def test_rope_is_read_in_both_ways_of_writing_it() -> None:
    assert from_hf_config(LLAMA) == PRESETS["7b"].arch
    old = from_hf_config(LLAMA | {"rope_theta": 1e6})
    new = from_hf_config(LLAMA | {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})
    assert old == new == PRESETS["7b"].arch.replace(rope_theta=1e6)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SHORT, LONG = [1.0] * 64, [2.0] * 64


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"type": "linear", "factor": 4.0}, RopeScaling("linear", 4.0, 4096)),
        ({"rope_type": "dynamic", "factor": 2.0}, RopeScaling("dynamic", 2.0, 4096)),
        (LLAMA3 | {"original_max_position_embeddings": 2048}, RopeScaling("llama3", 8.0, 2048)),
        (LLAMA3, RopeScaling("llama3", 8.0, 4096)),
        ({"type": "yarn", "factor": 4.0}, RopeScaling("yarn", 4.0, 4096, 1.1386294361119891)),
        ({"type": "yarn", "factor": 4.0, "attention_factor": 2.0}, RopeScaling("yarn", 4.0, 4096, 2.0)),
        ({"type": "yarn", "factor": 4, "mscale": 1, "mscale_all_dim": 1}, RopeScaling("yarn", 4, 4096, 1.0)),
        (
            {"type": "su", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 2048},
            RopeScaling(
                "longrope", 2.0, 2048, math.sqrt(12 / 11), short_factors=tuple(SHORT), long_factors=tuple(LONG)
            ),
        ),
    ],
)
def test_a_stretched_rope_is_read(change: dict[str, Any], expected: RopeScaling) -> None:
    assert from_hf_config(LLAMA | {"rope_scaling": change}).rope_scaling == expected
    theta = {"rope_theta": 5e5}
    new = from_hf_config(LLAMA | {"rope_parameters": change | theta})
    assert (new.rope_scaling, new.rope_theta) == (expected, 5e5)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "llama", "attention_bias": True}, {"qkv_bias": True, "o_bias": True}),
        ({"model_type": "llama", "mlp_bias": True}, {"ffn_bias": True}),
        ({"model_type": "llama", "head_dim": None}, {"head_dim": 128}),
        ({"model_type": "llama", "head_dim": 64}, {"head_dim": 64}),
        ({"model_type": "mistral"}, {"window": 4096, "n_kv_heads": 8, "max_positions": 131_072}),
        ({"model_type": "mistral", "sliding_window": None}, {"window": None}),
        ({"model_type": "mistral", "num_key_value_heads": None}, {"n_kv_heads": 32}),
        ({"model_type": "qwen2"}, {"qkv_bias": True, "o_bias": False, "window": None, "max_positions": 32_768}),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 30},
            {"window": 4096, "full_layers": tuple(range(30))},
        ),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 40}, {"window": None}),
        ({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 7}, {"window": None}),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 7,
             "layer_types": ["sliding_attention", "full_attention"] * 16},
            {"window": 7, "full_layers": tuple(range(1, 32, 2))},
        ),
        ({"model_type": "qwen3"}, {"qk_norm": True, "head_dim": 128, "qkv_bias": False}),
        ({"model_type": "qwen3", "num_attention_heads": 64}, {"head_dim": 128}),
        ({"model_type": "qwen3", "attention_bias": True}, {"qkv_bias": True, "o_bias": True}),
        ({"model_type": "phi3", "partial_rotary_factor": 0.75}, {"rotary_fraction": 0.75, "fused_on_disk": True}),
        ({"model_type": "gemma"}, {"head_dim": 256, "tied_embeddings": True, "n_kv_heads": 16, "window": None}),
        (
            {"model_type": "gemma2"},
            {"window": 4096, "full_layers": tuple(range(1, 32, 2)), "post_norms": True, "logits_softcap": 30.0},
        ),
        ({"model_type": "gemma3_text"}, {"full_layers": (5, 11, 17, 23, 29), "qk_norm": True, "rope_theta": 1e6}),
        ({"model_type": "mixtral"}, {"experts": Experts(8, 2, 11008), "window": None}),
        (
            {"model_type": "qwen3_moe", "decoder_sparse_step": 2, "mlp_only_layers": [1]},
            {"experts": Experts(128, 8, 768, dense_layers=(0, 1, *range(2, 32, 2)))},
        ),
        ({"model_type": "qwen2_moe"}, {"experts": Experts(60, 4, 1408, 5632, True)}),
        (
            {"model_type": "deepseek", "n_routed_experts": 64, "n_shared_experts": 2, "moe_intermediate_size": 1408,
             "first_k_dense_replace": 1, "moe_layer_freq": 1},
            {"experts": Experts(64, 6, 1408, 2816, dense_layers=(0,))},
        ),
        ({"model_type": "granite"}, {"scaled_streams": True}),
        ({"model_type": "internlm"}, {"qkv_bias": True, "o_bias": True}),
    ],
)  # fmt: skip
def test_absent_keys_are_what_the_class_takes(config: dict[str, Any], expected: dict[str, Any]) -> None:
    arch = from_hf_config(SIZES | config)
    assert {name: getattr(arch, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_act": "xielu"}, "hidden_act .* got 'xielu'"),
        ({"rope_scaling": {"type": "ntk"}}, "rope_type .* got 'ntk'"),
        ({"model_type": "deepseek_v3"}, r"'deepseek_v3' has multi-head latent attention \(MLA\)"),
        ({"kv_lora_rank": 512}, r"'llama' has multi-head latent attention"),
        ({"model_type": "jamba"}, "'jamba' has state-space layers"),
        ({"model_type": "qwen3_next"}, "'qwen3_next' has linear-attention layers"),
        ({"model_type": "gemma3n_text"}, "'gemma3n_text' has embeddings in every layer"),
        ({"model_type": "gpt2"}, "'gpt2' has LayerNorms"),
        ({"model_type": "unheard_of"}, "must be one of llama, .* got 'unheard_of'"),
        ({"model_type": ["llama"]}, "got"),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "layer_types": ["chunked"] * 32},
            "layer_types .*chunked",
        ),
        (
            {"model_type": "llava", "vision_config": {"depth": 1}, "text_config": {"model_type": "mistral"}},
            "'llava' is a multimodal wrapper around a 'mistral' text model, and its vision_config is not described",
        ),
    ],
)
def test_what_is_no_such_model_is_refused_by_name(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        from_hf_config(LLAMA | change)


def test_a_text_config_alone_is_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "wrapper", "text_config": LLAMA}))
    assert read_arch(str(path)) == PRESETS["7b"].arch


def test_every_family_reads_a_config_of_sizes_alone() -> None:
    from llamalab.arch.hf_configs.families import FAMILIES

    for name in FAMILIES:
        config = SIZES | {"model_type": name, "num_key_value_heads": 8}
        assert isinstance(from_hf_config(config), LlamaArch)
