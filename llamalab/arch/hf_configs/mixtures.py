"""Mixtures of experts, by the `model_type` of their config.json.

Source: transformers 5.23, models/<model_type>/configuration_*.py and modeling_*.py, where no other is named.
"""

from llamalab.arch.hf_configs.family import (
    ATTENTION_BIASES,
    GLM_4,
    OLMO_2,
    QWEN,
    USE_BIAS,
    Config,
    Family,
    every_other_of_the_first_slides,
    last_of_each_is_full,
    later_slide,
)
from llamalab.startup.hints import Any


def _biased_head(config: Config, layers: int) -> dict[str, Any]:
    return {"head_bias": bool(config.get("use_bias"))}


MIXTURES: dict[str, Family] = {
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
    "qwen2_moe": Family(
        {
            **QWEN,
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
    "qwen3_moe": Family(
        {
            **QWEN,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
        {"qk_norm": True},
        ATTENTION_BIASES,
    ),
    "deepseek": Family(  # deepseek-ai/deepseek-moe-16b-base modeling_deepseek.py: plain attention, shared experts
        {"max_position_embeddings": 2048, "num_experts_per_tok": 6}, biases=ATTENTION_BIASES
    ),
    "olmoe": Family(
        {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "num_experts": 64, "num_experts_per_tok": 8},
        {"qk_norm": True, "wide_qk_norm": True},
        ATTENTION_BIASES,
    ),
    "flex_olmo": Family(
        {"max_position_embeddings": 4096, "num_experts": 7, "num_experts_per_tok": 5}, OLMO_2, ATTENTION_BIASES
    ),
    "gpt_oss": Family(
        {
            "head_dim": 64,
            "num_key_value_heads": 8,
            "sliding_window": 128,
            "attention_bias": True,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131_072,
            "rope_theta": 150_000.0,
            "num_local_experts": 128,
            "num_experts_per_tok": 4,
        },
        {"attention_sinks": True},
        ATTENTION_BIASES,
        last_of_each_is_full,
        experts={"biases": True},
    ),
    "phimoe": Family(
        {
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1_000_000.0,
            "max_position_embeddings": 131_072,
            "num_local_experts": 16,
            "num_experts_per_tok": 2,
        },
        {"norm": "layer"},
        {**ATTENTION_BIASES, "head_bias": "lm_head_bias"},
    ),
    "granitemoe": Family(
        {"max_position_embeddings": 2048, "num_local_experts": 8, "num_experts_per_tok": 2},
        {"scaled_streams": True},
        ATTENTION_BIASES,
    ),
    "glm4_moe": Family(
        {
            **GLM_4,
            "head_dim": None,
            "num_key_value_heads": 8,
            "attention_bias": False,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131_072,
            "moe_intermediate_size": 1408,
            "num_experts_per_tok": 8,
            "n_shared_experts": 1,
            "n_routed_experts": 128,
            "first_k_dense_replace": 1,
        },
        biases={"qkv_bias": "attention_bias", "qk_norm": "use_qk_norm"},
    ),
    "dots1": Family(
        {
            "num_key_value_heads": 32,
            "max_position_embeddings": 2048,
            "sliding_window": 4096,
            "max_window_layers": 62,
            "moe_intermediate_size": 1408,
        },
        {"qk_norm": True},
        ATTENTION_BIASES,
        later_slide,
    ),
    "minimax_m2": Family(
        {
            "head_dim": 128,
            "num_key_value_heads": 8,
            "max_position_embeddings": 196_608,
            "num_local_experts": 256,
            "num_experts_per_tok": 8,
            "rope_theta": 5_000_000.0,
        },
        {"qk_norm": True, "wide_qk_norm": True},
    ),
    "solar_open": Family(
        {
            "head_dim": 128,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131_072,
            "intermediate_size": 1280,
            "moe_intermediate_size": 1280,
            "num_experts_per_tok": 8,
            "n_shared_experts": 1,
            "n_routed_experts": 128,
        },
        biases={"qkv_bias": "attention_bias"},
    ),
    "ernie4_5_moe": Family(
        {
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "max_position_embeddings": 131_072,
            "moe_intermediate_size": 1536,
            "moe_k": 6,
            "moe_num_experts": 64,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
            "moe_layer_interval": 1,
        },
        {"pairs_on_disk": True},
        USE_BIAS,
        keys={
            "num_experts": "moe_num_experts",
            "num_experts_per_tok": "moe_k",
            "n_shared_experts": "moe_num_shared_experts",
            "first_k_dense_replace": "moe_layer_start_index",
            "moe_layer_freq": "moe_layer_interval",
        },
        also=_biased_head,
        experts={"correction": True},
    ),
}
