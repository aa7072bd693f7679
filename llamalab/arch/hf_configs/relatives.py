"""Models related to Llama, by the `model_type` of their config.json: other norms or blocks, layers without RoPE.

The calculators accept them; llamalab.arch.runnable states which of them the built-in model runs. Source: transformers
5.23, models/<model_type>/configuration_*.py and modeling_*.py, unless a row names another.
"""

from llamalab.arch.hf_configs.family import (
    ATTENTION_BIASES,
    GLM_4,
    OLMO_2,
    USE_BIAS,
    Config,
    Family,
    last_of_each_is_full,
)
from llamalab.startup.hints import Any

_COHERE = {"norm": "layer_unbiased", "shared_norm": True, "scaled_streams": True, "pairs_on_disk": True}
_COHERE_KEYS = {"rms_norm_eps": "layer_norm_eps"}
_BAICHUAN_2_WORDS = 125_696


def _every_so_many_unrotated(config: Config, layers: int) -> dict[str, Any]:
    """SmolLM3: `no_rope_layers` has 1 for a layer with RoPE; else each last of `no_rope_layer_interval` has none."""
    turned = config.get("no_rope_layers")
    every = config.get("no_rope_layer_interval", 4)
    kinds = [(layer + 1) % every != 0 for layer in range(layers)] if turned is None else turned[:layers]
    return {"unrotated_layers": tuple(layer for layer, turns in enumerate(kinds) if not turns)}


def _full_layers_unrotated(config: Config, layers: int) -> dict[str, Any]:
    """Cohere 2 and EXAONE 4 apply RoPE to windowed layers, and to all where none is windowed."""
    if not config.get("sliding_window"):
        return {}
    kinds = config.get("layer_types")
    if kinds is None:
        return {"unrotated_layers": last_of_each_is_full(config, layers)}
    return {"unrotated_layers": tuple(layer for layer, kind in enumerate(kinds[:layers]) if kind == "full_attention")}


def _baichuan(config: Config, layers: int) -> dict[str, Any]:
    """The 13B, whose files have model_max_length alone, has ALiBi; Baichuan 2 is recognised by its vocabulary."""
    alibi = "max_position_embeddings" not in config
    normed = config.get("vocab_size") == _BAICHUAN_2_WORDS
    fields: dict[str, Any] = {"normed_head": normed}
    if alibi:
        fields |= {
            "alibi": True,
            "unrotated_layers": tuple(range(layers)),
            "max_positions": config.get("model_max_length", 4096),
        }
    return fields


def _cohere_norms(config: Config, layers: int) -> dict[str, Any]:
    return {"qk_norm": True, "wide_qk_norm": True} if config.get("use_qk_norm") else {}


def _stable_norms(config: Config, layers: int) -> dict[str, Any]:
    """StableLM 2 12B: one norm for both, and norms of heads."""
    shared = {"shared_norm": True} if config.get("use_parallel_residual") else {}
    return shared | ({"qk_norm": True, "wide_qk_norm": True} if config.get("qk_layernorm") else {})


RELATIVES: dict[str, Family] = {
    "smollm3": Family(
        {
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "max_position_embeddings": 32_768,
            "rope_theta": 2_000_000.0,
        },
        biases={**ATTENTION_BIASES, "ffn_bias": "mlp_bias"},
        also=_every_so_many_unrotated,
    ),
    "olmo": Family({"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}, {"norm": "layer_bare"}, ATTENTION_BIASES),
    "olmo2": Family({"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}, OLMO_2, ATTENTION_BIASES),
    "olmo3": Family(
        {
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
        },
        OLMO_2,
        ATTENTION_BIASES,
        last_of_each_is_full,
    ),
    "cohere": Family(
        {"max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "tie_word_embeddings": True},
        _COHERE,
        ATTENTION_BIASES,
        keys=_COHERE_KEYS,
        also=_cohere_norms,
    ),
    "cohere2": Family(
        defaults={
            "max_position_embeddings": 8192,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
        },
        always=_COHERE,
        biases=ATTENTION_BIASES,
        full_layers=last_of_each_is_full,
        keys=_COHERE_KEYS,
        also=_full_layers_unrotated,
    ),
    "stablelm": Family(
        {"max_position_embeddings": 4096, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25},
        {"norm": "layer"},
        {"qkv_bias": "use_qkv_bias"},
        keys={"rms_norm_eps": "layer_norm_eps"},
        also=_stable_norms,
    ),
    "glm4": Family(
        {**GLM_4, "rms_norm_eps": 0.00000015625, "max_position_embeddings": 131_072},
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
        ATTENTION_BIASES,
    ),
    "hyperclovax": Family(
        {"max_position_embeddings": 2048},
        {"scaled_streams": True},
        {**ATTENTION_BIASES, "ffn_bias": "mlp_bias", "post_norms": "use_post_norm"},
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
        {**ATTENTION_BIASES, "ffn_bias": "mlp_bias"},
    ),
    "nemotron": Family(
        {
            "hidden_act": "relu2",
            "norm_eps": 1e-5,
            "max_position_embeddings": 4096,
            "partial_rotary_factor": 0.5,
        },
        {"gated": False, "norm": "layer"},
        {**ATTENTION_BIASES, "ffn_bias": "mlp_bias"},
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
        USE_BIAS,
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
        {**ATTENTION_BIASES, "ffn_bias": "mlp_bias"},
        keys={"rms_norm_eps": "layer_norm_eps"},
    ),
    "nanochat": Family(
        {"hidden_act": "relu2", "max_position_embeddings": 2048, "final_logit_softcapping": 15.0},
        {"gated": False, "norm": "rms_bare", "qk_norm": True, "norms_after_rope": True},
        ATTENTION_BIASES,
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
        ATTENTION_BIASES,
        last_of_each_is_full,
    ),
}
