"""Families of models by the `model_type` of their config.json: one row each, of data.

Families that the built-in model runs, or would run but for a constant; dense models of other blocks, for the
calculators alone, are in `relatives`, mixtures of experts in `mixtures`. Source: transformers 5.23,
models/<model_type>/configuration_*.py and modeling_*.py, unless a row names another. Sizes have no default: a file
without them does not describe a model.
"""

from llamalab.arch.hf_configs.family import (
    ATTENTION_BIASES,
    QWEN,
    Family,
    first_of_four_is_full,
    last_of_each_is_full,
    later_slide,
)
from llamalab.arch.hf_configs.mixtures import MIXTURES
from llamalab.arch.hf_configs.relatives import RELATIVES

_LLAMA_BIASES = {**ATTENTION_BIASES, "ffn_bias": "mlp_bias"}
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
    "qwen2": Family({**QWEN, "num_key_value_heads": 32}, {"qkv_bias": True}, full_layers=later_slide),
    "qwen3": Family(
        {**QWEN, "num_key_value_heads": 32, "head_dim": 128}, {"qk_norm": True}, ATTENTION_BIASES, later_slide
    ),
    "phi3": Family({"rms_norm_eps": 1e-5, "max_position_embeddings": 4096}, {"fused_on_disk": True}),
    "gemma": Family({**_GEMMA_DEFAULTS, "num_key_value_heads": 16}, _GEMMA, ATTENTION_BIASES),
    "gemma2": Family(
        {
            **_GEMMA_DEFAULTS,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        {**_GEMMA, "post_norms": True},
        ATTENTION_BIASES,
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
        ATTENTION_BIASES,
        last_of_each_is_full,
    ),
    "granite": Family({"max_position_embeddings": 2048}, {"scaled_streams": True}, _LLAMA_BIASES),
    "seed_oss": Family(
        {"head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 524_288, "attention_bias": True},
        biases={"qkv_bias": "attention_bias", "o_bias": "attention_out_bias", "ffn_bias": "mlp_bias"},
    ),
    "internlm2": Family(  # internlm/internlm2-7b modeling_internlm2.py, a Llama with one tensor for wq, wk and wv
        {"bias": False, "max_position_embeddings": 2048}, biases={"qkv_bias": "bias", "o_bias": "bias"}
    ),
    "internlm3": Family(
        {"head_dim": 128, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 32_768},
        biases={"qkv_bias": "attention_bias", "o_bias": "attention_bias", "ffn_bias": "attention_bias"},
        keys={"attention_bias": "qkv_bias"},
    ),
    "xverse": Family({"max_position_embeddings": 2048}),  # xverse/XVERSE-7B modeling_xverse.py
    "aquila": Family({"max_position_embeddings": 2048}),  # BAAI/AquilaChat-7B modeling_aquila.py
    "qwen": Family(  # Qwen/Qwen-7B modeling_qwen.py: half of intermediate_size is one feed-forward's width
        {"kv_channels": 128, "max_position_embeddings": 32_768, "no_bias": True},
        {"qkv_bias": True},
        keys={"rms_norm_eps": "layer_norm_epsilon", "max_position_embeddings": "seq_length", "head_dim": "kv_channels"},
        also=lambda config, layers: {"ffn_dim": config["intermediate_size"] // 2},
    ),
    "exaone": Family(  # LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct modeling_exaone.py
        {"max_position_embeddings": 2048},
        keys={
            "num_hidden_layers": "num_layers",
            "rms_norm_eps": "layer_norm_epsilon",
            "hidden_act": "activation_function",
        },
    ),
    "iquestcoder": Family(
        {"head_dim": 128, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 131_072},
        biases=_LLAMA_BIASES,
    ),
    "ministral3": Family(  # its queries are scaled by their position where its RoPE has a setting for it
        {"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5, "max_position_embeddings": 262_144},
        also=lambda config, layers: {
            "scaled_streams": bool((config.get("rope_parameters") or {}).get("llama_4_scaling_beta"))
        },
    ),
    "cwm": Family(
        {
            "head_dim": 128,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "sliding_window": 8192,
            "max_position_embeddings": 131_072,
            "rope_theta": 1_000_000.0,
        },
        biases={"ffn_bias": "mlp_bias"},
        full_layers=first_of_four_is_full,
    ),
    "helium": Family(
        {"head_dim": 128, "num_key_value_heads": 20, "rms_norm_eps": 1e-8, "max_position_embeddings": 4096},
        {"pairs_on_disk": True},
        {"qkv_bias": "attention_bias", "ffn_bias": "mlp_bias"},
    ),
    "ernie4_5": Family(
        {
            "head_dim": 128,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "max_position_embeddings": 131_072,
        },
        {"pairs_on_disk": True},
        {"qkv_bias": "use_bias", "o_bias": "use_bias", "ffn_bias": "use_bias"},
    ),
    "glm": Family(
        {
            "head_dim": 128,
            "num_key_value_heads": 2,
            "attention_bias": True,
            "rms_norm_eps": 0.00000015625,
            "max_position_embeddings": 131_072,
            "partial_rotary_factor": 0.5,
        },
        {"gate_up_on_disk": True, "pairs_on_disk": True},
        {"qkv_bias": "attention_bias"},
    ),
    **RELATIVES,
    **MIXTURES,
}
