"""Families of models by the `model_type` of their config.json: one row each, of data.

`defaults` are what the class of transformers takes where the file is silent; `always` are fields of LlamaArch that
the class fixes in code. Source of both: transformers 5.23, models/<model_type>/configuration_*.py and modeling_*.py,
where no other is named. Sizes have no default here: a file without them is no description of a model.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Config = Mapping[str, Any]
_NOTHING: Config = MappingProxyType({})


def all_slide(config: Config, layers: int) -> tuple[int, ...]:
    """No layer sees beyond the window."""
    return ()


def later_slide(config: Config, layers: int) -> tuple[int, ...]:
    """The first `max_window_layers` see everything (Qwen2, Qwen3)."""
    return tuple(range(min(config.get("max_window_layers", 28), layers)))


def every_other_of_the_first_slides(config: Config, layers: int) -> tuple[int, ...]:
    """Of the first `max_window_layers` every other one slides (Qwen2-MoE)."""
    first = config.get("max_window_layers", 28)
    return tuple(layer for layer in range(layers) if layer % 2 or layer >= first)


def last_of_each_is_full(config: Config, layers: int) -> tuple[int, ...]:
    """One of every `sliding_window_pattern` layers sees everything: the last (Gemma 2: 2; Gemma 3: 6)."""
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 2
    return tuple(layer for layer in range(layers) if (layer + 1) % pattern == 0)


class Family(NamedTuple):
    """What a `model_type` implies. `biases` are the keys of the config that switch biases on, by field of LlamaArch."""

    defaults: Config = _NOTHING
    always: Config = _NOTHING
    biases: Config = _NOTHING
    full_layers: Callable[[Config, int], tuple[int, ...]] = all_slide


_ALL_ATTENTION = {"qkv_bias": "attention_bias", "o_bias": "attention_bias"}
_LLAMA_BIASES = {**_ALL_ATTENTION, "ffn_bias": "mlp_bias"}
_QWEN = {"max_position_embeddings": 32_768, "use_sliding_window": False, "sliding_window": 4096}
_MISTRAL = {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131_072}
_GEMMA_DEFAULTS = {
    "head_dim": 256,
    "tie_word_embeddings": True,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
}
_GEMMA = {"norm_plus_one": True, "scaled_streams": True}

FAMILIES: dict[str, Family] = {
    "llama": Family({"max_position_embeddings": 2048}, biases=_LLAMA_BIASES),
    "Yi": Family({"max_position_embeddings": 4096}),  # the first files of 01-ai/Yi, a Llama in all but the name
    "internlm": Family(  # internlm/internlm-7b modeling_internlm.py, a Llama with biases
        {"bias": True, "max_position_embeddings": 2048}, biases={"qkv_bias": "bias", "o_bias": "bias"}
    ),
    "mistral": Family(_MISTRAL),
    "ministral": Family(_MISTRAL),
    "mixtral": Family(
        {
            "num_key_value_heads": 8,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1_000_000.0,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        }
    ),
    "qwen2": Family({**_QWEN, "num_key_value_heads": 32}, {"qkv_bias": True}, full_layers=later_slide),
    "qwen2_moe": Family(
        {
            **_QWEN,
            "num_key_value_heads": 16,
            "qkv_bias": True,
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
        },
        biases={"qkv_bias": "qkv_bias"},
        full_layers=every_other_of_the_first_slides,
    ),
    "qwen3": Family(
        {**_QWEN, "num_key_value_heads": 32, "head_dim": 128}, {"qk_norm": True}, _ALL_ATTENTION, later_slide
    ),
    "qwen3_moe": Family(
        {
            **_QWEN,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
        {"qk_norm": True},
        _ALL_ATTENTION,
    ),
    "phi3": Family({"rms_norm_eps": 1e-5, "max_position_embeddings": 4096}, {"fused_on_disk": True}),
    "gemma": Family({**_GEMMA_DEFAULTS, "num_key_value_heads": 16}, _GEMMA, _ALL_ATTENTION),
    "gemma2": Family(
        {
            **_GEMMA_DEFAULTS,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        {**_GEMMA, "post_norms": True},
        _ALL_ATTENTION,
        last_of_each_is_full,
    ),
    "gemma3_text": Family(
        {
            **_GEMMA_DEFAULTS,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "sliding_window_pattern": 6,
            "max_position_embeddings": 131_072,
            "rope_theta": 1_000_000.0,
        },
        {**_GEMMA, "post_norms": True, "qk_norm": True},
        _ALL_ATTENTION,
        last_of_each_is_full,
    ),
    "granite": Family({"max_position_embeddings": 2048}, {"scaled_streams": True}, _LLAMA_BIASES),
    "deepseek": Family(  # deepseek-ai/deepseek-moe-16b-base modeling_deepseek.py: plain attention, shared experts
        {"max_position_embeddings": 2048, "num_experts_per_tok": 6}, biases=_ALL_ATTENTION
    ),
    "seed_oss": Family(
        {"head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 524_288, "attention_bias": True},
        biases={"qkv_bias": "attention_bias", "o_bias": "attention_out_bias", "ffn_bias": "mlp_bias"},
    ),
}

_MLA = "multi-head latent attention (MLA), whose cache holds compressed keys and values"
_STATE_SPACE = "state-space layers, whose memory does not grow with the context"
_LINEAR = "linear-attention layers, whose memory does not grow with the context"
_LAYER_NORM = "LayerNorms with biases and a feed-forward without a gate"
MISSING: dict[str, str] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "minicpm3", "glm4_moe_lite"), _MLA),
    **dict.fromkeys(
        ("mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "zamba", "zamba2", "nemotron_h", "falcon_h1",
         "granitemoehybrid", "hymba", "plamo2"),
        _STATE_SPACE,
    ),
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "recurrent_gemma", "rwkv", "minimax", "lfm2", "kimi_linear"),
        _LINEAR,
    ),
    **dict.fromkeys(("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "mpt", "falcon", "phi", "starcoder2"),
                    _LAYER_NORM),
    **dict.fromkeys(("stablelm", "cohere", "cohere2", "olmo", "phimoe", "persimmon"), "LayerNorms"),
    **dict.fromkeys(("olmo2", "olmo3", "flex_olmo"), "norms behind its sublayers alone, over all heads at once"),
    **dict.fromkeys(("glm", "glm4", "glm4_moe"), "the norms and partly rotated heads of GLM"),
    **dict.fromkeys(("t5", "bart", "mbart", "pegasus", "umt5"), "an encoder"),
    **dict.fromkeys(("bert", "roberta", "modernbert", "electra"), "attention that is not causal"),
    "gpt_oss": "attention sinks, and biases on its experts",
    "llama4_text": "chunked attention and layers without RoPE",
    "smollm3": "layers without RoPE",
    "dbrx": "LayerNorms",
    "baichuan": "ALiBi in its larger size, and heads normalised as they are read",
}  # fmt: skip
