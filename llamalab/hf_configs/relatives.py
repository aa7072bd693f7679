"""Models beside Llama's family, by the `model_type` of their config.json: other norms or blocks, layers without RoPE.

The calculators answer for them; which of them the built-in model runs says llamalab.runnable. Source: transformers
5.23, models/<model_type>/configuration_*.py and modeling_*.py, where no other is named.
"""

from typing import Any

from llamalab.hf_configs.family import Config, Family, last_of_each_is_full, later_slide

_ALL_ATTENTION = {"qkv_bias": "attention_bias", "o_bias": "attention_bias"}
_USE_BIAS = {"qkv_bias": "use_bias", "o_bias": "use_bias", "ffn_bias": "use_bias"}
_OLMO_2 = {"qk_norm": True, "wide_qk_norm": True, "pre_norms": False, "post_norms": True}
_COHERE = {"norm": "layer_unbiased", "shared_norm": True, "scaled_streams": True, "pairs_on_disk": True}
_COHERE_KEYS = {"rms_norm_eps": "layer_norm_eps"}
_GLM_4 = {"head_dim": 128, "num_key_value_heads": 2, "attention_bias": True, "partial_rotary_factor": 0.5}
_BAICHUAN_2_WORDS = 125_696


def _every_so_many_unrotated(config: Config, layers: int) -> dict[str, Any]:
    """SmolLM3: `no_rope_layers` has 1 for a layer that is turned; else the last of `no_rope_layer_interval` is not."""
    turned = config.get("no_rope_layers")
    every = config.get("no_rope_layer_interval", 4)
    kinds = [(layer + 1) % every != 0 for layer in range(layers)] if turned is None else turned[:layers]
    return {"unrotated_layers": tuple(layer for layer, turns in enumerate(kinds) if not turns)}


def _full_layers_unrotated(config: Config, layers: int) -> dict[str, Any]:
    """Cohere 2 and EXAONE 4 turn the layers that slide, and all where none does."""
    if not config.get("sliding_window"):
        return {}
    kinds = config.get("layer_types")
    if kinds is None:
        return {"unrotated_layers": last_of_each_is_full(config, layers)}
    return {"unrotated_layers": tuple(layer for layer, kind in enumerate(kinds[:layers]) if kind == "full_attention")}


def _baichuan(config: Config, layers: int) -> dict[str, Any]:
    """Its 13B, whose files know model_max_length alone, has ALiBi; Baichuan 2 is told by its vocabulary."""
    alibi = "max_position_embeddings" not in config
    normed = config.get("vocab_size") == _BAICHUAN_2_WORDS
    fields: dict[str, Any] = {"normed_head": normed}
    if alibi:
        fields |= {"alibi": True, "unrotated_layers": tuple(range(layers)),
                   "max_positions": config.get("model_max_length", 4096)}  # fmt: skip
    return fields


def _cohere_norms(config: Config, layers: int) -> dict[str, Any]:
    return {"qk_norm": True, "wide_qk_norm": True} if config.get("use_qk_norm") else {}


def _stable_norms(config: Config, layers: int) -> dict[str, Any]:
    """StableLM 2 12B: one norm for both, and norms of heads."""
    shared = {"shared_norm": True} if config.get("use_parallel_residual") else {}
    return shared | ({"qk_norm": True, "wide_qk_norm": True} if config.get("qk_layernorm") else {})


def _biased_head(config: Config, layers: int) -> dict[str, Any]:
    return {"head_bias": bool(config.get("use_bias"))}


RELATIVES: dict[str, Family] = {
    "smollm3": Family(
        {
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "max_position_embeddings": 32_768,
            "rope_theta": 2_000_000.0,
        },
        biases={**_ALL_ATTENTION, "ffn_bias": "mlp_bias"},
        also=_every_so_many_unrotated,
    ),
    "olmo": Family({"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}, {"norm": "layer_bare"}, _ALL_ATTENTION),
    "olmo2": Family({"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}, _OLMO_2, _ALL_ATTENTION),
    "olmo3": Family(
        {
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
        },
        _OLMO_2,
        _ALL_ATTENTION,
        last_of_each_is_full,
    ),
    "olmoe": Family(
        {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "num_experts": 64, "num_experts_per_tok": 8},
        {"qk_norm": True, "wide_qk_norm": True},
        _ALL_ATTENTION,
    ),
    "flex_olmo": Family(
        {"max_position_embeddings": 4096, "num_experts": 7, "num_experts_per_tok": 5}, _OLMO_2, _ALL_ATTENTION
    ),
    "cohere": Family(
        {"max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "tie_word_embeddings": True},
        _COHERE,
        _ALL_ATTENTION,
        keys=_COHERE_KEYS,
        also=_cohere_norms,
    ),
    "cohere2": Family(
        {
            "max_position_embeddings": 8192,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
        },
        _COHERE,
        _ALL_ATTENTION,
        last_of_each_is_full,
        _COHERE_KEYS,
        _full_layers_unrotated,
    ),
    "stablelm": Family(
        {"max_position_embeddings": 4096, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25},
        {"norm": "layer"},
        {"qkv_bias": "use_qkv_bias"},
        keys={"rms_norm_eps": "layer_norm_eps"},
        also=_stable_norms,
    ),
    "glm4": Family(
        {**_GLM_4, "rms_norm_eps": 0.00000015625, "max_position_embeddings": 131_072},
        {"post_norms": True, "gate_up_on_disk": True, "pairs_on_disk": True},
        {"qkv_bias": "attention_bias"},
    ),
    "exaone4": Family(
        {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4},
        {"qk_norm": True, "pre_norms": False, "post_norms": True},
        full_layers=last_of_each_is_full,
        also=_full_layers_unrotated,
    ),
    "hunyuan_v1_dense": Family(
        {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5},
        {"qk_norm": True, "norms_after_rope": True},
        _ALL_ATTENTION,
    ),
    "hyperclovax": Family(
        {"max_position_embeddings": 2048},
        {"scaled_streams": True},
        {**_ALL_ATTENTION, "ffn_bias": "mlp_bias", "post_norms": "use_post_norm"},
    ),
    # openbmb/MiniCPM-2B-sft-bf16 modeling_minicpm.py, OrionStarAI/Orion-14B-Base modeling_orion.py
    "minicpm": Family({"max_position_embeddings": 4096}, {"scaled_streams": True}),
    "orion": Family({"max_position_embeddings": 4096}, {"norm": "layer"}),
    "baichuan": Family(  # baichuan-inc/Baichuan2-7B-Base and -13B-Base modeling_baichuan.py
        {"rms_norm_eps": 1e-6}, also=_baichuan
    ),
    "arcee": Family(
        {"hidden_act": "relu2", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096},
        {"gated": False},
        {**_ALL_ATTENTION, "ffn_bias": "mlp_bias"},
    ),
    "nemotron": Family(
        {
            "hidden_act": "relu2",
            "norm_eps": 1e-5,
            "max_position_embeddings": 4096,
            "partial_rotary_factor": 0.5,
        },
        {"gated": False, "norm": "layer"},
        {**_ALL_ATTENTION, "ffn_bias": "mlp_bias"},
        keys={"rms_norm_eps": "norm_eps"},
    ),
    "starcoder2": Family(
        {
            "hidden_act": "gelu_pytorch_tanh",
            "norm_epsilon": 1e-5,
            "use_bias": True,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
        },
        {"gated": False, "norm": "layer"},
        _USE_BIAS,
        keys={"rms_norm_eps": "norm_epsilon"},
    ),
    "phi": Family(
        {
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 2048,
            "partial_rotary_factor": 0.5,
        },
        {
            "gated": False,
            "norm": "layer",
            "shared_norm": True,
            "qkv_bias": True,
            "o_bias": True,
            "ffn_bias": True,
            "head_bias": True,
        },
        keys={"rms_norm_eps": "layer_norm_eps"},
        refused={"qk_layernorm": "LayerNorms of queries and keys with biases"},
    ),
    "jais2": Family(
        {
            "hidden_act": "relu2",
            "layer_norm_eps": 1e-5,
            "attention_bias": True,
            "mlp_bias": True,
            "max_position_embeddings": 8192,
        },
        {"gated": False, "norm": "layer"},
        {**_ALL_ATTENTION, "ffn_bias": "mlp_bias"},
        keys={"rms_norm_eps": "layer_norm_eps"},
    ),
    "nanochat": Family(
        {"hidden_act": "relu2", "max_position_embeddings": 2048, "final_logit_softcapping": 15.0},
        {"gated": False, "norm": "rms_bare", "qk_norm": True, "norms_after_rope": True},
        _ALL_ATTENTION,
    ),
    "vaultgemma": Family(
        {
            "head_dim": 256,
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
            "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 8192,
            "sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        {"norm_plus_one": True, "scaled_streams": True},
        _ALL_ATTENTION,
        last_of_each_is_full,
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
        _ALL_ATTENTION,
        last_of_each_is_full,
        experts={"biases": True},
    ),
    "phimoe": Family(
        {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0, "max_position_embeddings": 131_072,
         "num_local_experts": 16, "num_experts_per_tok": 2},
        {"norm": "layer"},
        {**_ALL_ATTENTION, "head_bias": "lm_head_bias"},
    ),
    "granitemoe": Family(
        {"max_position_embeddings": 2048, "num_local_experts": 8, "num_experts_per_tok": 2},
        {"scaled_streams": True},
        _ALL_ATTENTION,
    ),
    "glm4_moe": Family(
        {**_GLM_4, "head_dim": None, "num_key_value_heads": 8, "attention_bias": False, "rms_norm_eps": 1e-5,
         "max_position_embeddings": 131_072, "moe_intermediate_size": 1408, "num_experts_per_tok": 8,
         "n_shared_experts": 1, "n_routed_experts": 128, "first_k_dense_replace": 1},
        biases={"qkv_bias": "attention_bias", "qk_norm": "use_qk_norm"},
    ),
    "dots1": Family(
        {"num_key_value_heads": 32, "max_position_embeddings": 2048, "sliding_window": 4096, "max_window_layers": 62,
         "moe_intermediate_size": 1408},
        {"qk_norm": True},
        _ALL_ATTENTION,
        later_slide,
    ),
    "minimax_m2": Family(
        {"head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 196_608, "num_local_experts": 256,
         "num_experts_per_tok": 8, "rope_theta": 5_000_000.0},
        {"qk_norm": True, "wide_qk_norm": True},
    ),
    "solar_open": Family(
        {"head_dim": 128, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 131_072,
         "intermediate_size": 1280, "moe_intermediate_size": 1280, "num_experts_per_tok": 8, "n_shared_experts": 1,
         "n_routed_experts": 128},
        biases={"qkv_bias": "attention_bias"},
    ),
    "ernie4_5_moe": Family(
        {"num_key_value_heads": 4, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
         "max_position_embeddings": 131_072, "moe_intermediate_size": 1536, "moe_k": 6, "moe_num_experts": 64,
         "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_interval": 1},
        {"pairs_on_disk": True},
        _USE_BIAS,
        keys={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k",
              "n_shared_experts": "moe_num_shared_experts", "first_k_dense_replace": "moe_layer_start_index",
              "moe_layer_freq": "moe_layer_interval"},
        also=_biased_head,
        experts={"correction": True},
    ),
}  # fmt: skip
