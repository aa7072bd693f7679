"""Small configs of transformers' own classes, with the switches that published models set, by a name of each."""

from typing import Any

_SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 120, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
_HEADS_APART = {"head_dim": 12}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_PART = {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "full_attention"]


def _of(kind: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    return kind, _SMALL | changes


DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": _of("llama"),
    "llama, biases": _of("llama", attention_bias=True, mlp_bias=True, head_dim=12, tie_word_embeddings=True),
    "mistral": _of("mistral", sliding_window=9, **_HEADS_APART),
    "ministral": _of("ministral", sliding_window=9, layer_types=_MIXED, **_HEADS_APART),
    "ministral3": _of("ministral3", **_HEADS_APART),
    "qwen2": _of("qwen2"),
    "qwen2, windows": _of("qwen2", use_sliding_window=True, sliding_window=7, max_window_layers=2),
    "qwen3": _of("qwen3", **_HEADS_APART),
    "qwen3, biases": _of("qwen3", attention_bias=True, use_sliding_window=True, sliding_window=7, layer_types=_MIXED),
    "phi3": _of("phi3", sliding_window=9),
    "gemma": _of("gemma", head_dim=16),
    "gemma2": _of("gemma2", head_dim=16, sliding_window=6),
    "gemma3": _of("gemma3_text", head_dim=16, sliding_window=6),
    "vaultgemma": _of("vaultgemma", head_dim=16, sliding_window=6),
    "granite": _of("granite", embedding_multiplier=12.0),
    "granite, biases": _of("granite", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "seed_oss": _of("seed_oss", **_HEADS_APART),
    "smollm3": _of("smollm3"),
    "smollm3, windows": _of(
        "smollm3", use_sliding_window=True, sliding_window=6, no_rope_layers=[1, 0, 1, 1, 0], layer_types=_MIXED
    ),
    "olmo": _of("olmo"),
    "olmo2": _of("olmo2"),
    "olmo3": _of("olmo3", sliding_window=6),
    "cohere": _of("cohere"),
    "cohere, norms of heads": _of("cohere", use_qk_norm=True, attention_bias=True),
    "cohere2": _of("cohere2", sliding_window=6),
    "stablelm": _of("stablelm"),
    "stablelm 2": _of("stablelm", use_qkv_bias=True, tie_word_embeddings=True),
    "stablelm 2 12B": _of("stablelm", use_parallel_residual=True, qk_layernorm=True),
    "glm": _of("glm", head_dim=16, **_PART),
    "glm, no biases": _of("glm", head_dim=16, attention_bias=False, **_PART),
    "glm4": _of("glm4", head_dim=16, **_PART),
    "exaone4": _of("exaone4", sliding_window=6),
    "exaone4, no window": _of("exaone4", sliding_window=None, layer_types=["full_attention"] * 5),
    "helium": _of("helium", head_dim=8),
    "internlm3": _of("internlm3", head_dim=12),
    "iquestcoder": _of("iquestcoder", head_dim=12),
    "ernie4_5": _of("ernie4_5", head_dim=12),
    "ernie4_5, biases": _of("ernie4_5", use_bias=True, tie_word_embeddings=False),
    "hunyuan": _of("hunyuan_v1_dense", head_dim=16),
    "hyperclovax": _of("hyperclovax"),
    "hyperclovax, norms behind": _of("hyperclovax", use_post_norm=True, attention_bias=True),
    "cwm": _of("cwm", head_dim=8, sliding_window=6, bos_token_id=1),
    "arcee": _of("arcee"),
    "nemotron": _of("nemotron", head_dim=8, **_PART),
    "starcoder2": _of("starcoder2", sliding_window=6),
    "starcoder2, no biases": _of("starcoder2", use_bias=False, tie_word_embeddings=False),
    "phi": _of("phi", **_PART),
    "jais2": _of("jais2"),
    "nanochat": _of("nanochat"),
}
MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": _of("mixtral"),
    "qwen2_moe": _of("qwen2_moe", moe_intermediate_size=24, shared_expert_intermediate_size=40, num_experts=6),
    "qwen3_moe": _of(
        "qwen3_moe", moe_intermediate_size=24, num_experts=6, num_experts_per_tok=2, decoder_sparse_step=2,
        mlp_only_layers=[3],
    ),
    "olmoe": _of("olmoe", num_experts=6, num_experts_per_tok=2),
    "flex_olmo": _of("flex_olmo", num_experts=6),
    "gpt_oss": _of("gpt_oss", num_local_experts=6, sliding_window=6, rope_parameters=_ROPE),
    "granitemoe": _of("granitemoe", num_local_experts=6),
    "phimoe": _of("phimoe", num_local_experts=6, attention_bias=True, lm_head_bias=True, rope_parameters=_ROPE),
    "glm4_moe": _of(
        "glm4_moe", n_routed_experts=6, moe_intermediate_size=24, head_dim=16, use_qk_norm=True, attention_bias=True,
        num_mtp_layers=0, num_experts_per_tok=2, **_PART,
    ),
    "dots1": _of("dots1", n_routed_experts=6, n_shared_experts=2, moe_intermediate_size=24, num_experts_per_tok=2),
    "minimax_m2": _of("minimax_m2", num_local_experts=6, num_experts_per_tok=2, head_dim=8),
    "solar_open": _of(
        "solar_open", n_routed_experts=6, moe_intermediate_size=24, num_experts_per_tok=2, head_dim=8
    ),
    "ernie4_5_moe": _of("ernie4_5_moe", moe_num_experts=6, moe_intermediate_size=24, head_dim=8, moe_k=2),
}  # fmt: skip
