"""A transformers config of the same shape as an architecture, by the traits that a class of transformers fixes."""

from typing import Any

from llamalab.arch import LlamaArch


def model_type(arch: LlamaArch) -> str:
    """The class that has all that the architecture has."""
    if arch.experts is not None:
        return "qwen3_moe" if arch.qk_norm else "qwen2_moe" if arch.experts.shared_gate else "mixtral"
    if arch.norm_plus_one:
        return "gemma2" if arch.post_norms else "gemma"
    if arch.wide_qk_norm:
        return "olmo2"
    if arch.qk_norm:
        return "qwen3"
    if arch.shared_norm:
        return "phi"
    if arch.fused_on_disk:
        return "phi3"
    if arch.qkv_bias and not arch.o_bias:
        return "qwen2"
    return "mistral" if arch.window is not None else "llama"


def hf_config(arch: LlamaArch, **changes: Any) -> Any:
    """The config; `changes` go to the constructor of its class."""
    from transformers import CONFIG_MAPPING

    kind = model_type(arch)
    settings: dict[str, Any] = {
        "hidden_size": arch.dim,
        "intermediate_size": arch.ffn_dim,
        "num_hidden_layers": arch.n_layers,
        "num_attention_heads": arch.n_heads,
        "num_key_value_heads": arch.n_kv_heads,
        "head_dim": arch.head_dim,
        "vocab_size": arch.vocab_size,
        "rms_norm_eps": arch.norm_eps,
        "max_position_embeddings": arch.max_positions,
        "tie_word_embeddings": arch.tied_embeddings,
        "sliding_window": arch.window,
        "rope_parameters": rope_parameters(arch),
        "pad_token_id": None,
    }
    if arch.experts is not None:
        settings |= {
            "num_local_experts": arch.experts.n_experts, "num_experts": arch.experts.n_experts,
            "num_experts_per_tok": arch.experts.n_active, "moe_intermediate_size": arch.experts.ffn_dim,
            "shared_expert_intermediate_size": arch.experts.shared_ffn_dim,
            "mlp_only_layers": list(arch.experts.dense_layers),
        }  # fmt: skip
    if kind in ("qwen2", "qwen3", "gemma2"):
        kinds = ["full_attention" if arch.window_of(n) is None else "sliding_attention" for n in range(arch.n_layers)]
        settings |= {"use_sliding_window": arch.window is not None, "layer_types": kinds}
    if kind in ("llama", "qwen3"):
        settings |= {"attention_bias": arch.qkv_bias}
    if kind == "llama":
        settings |= {"mlp_bias": arch.ffn_bias}
    return CONFIG_MAPPING[kind](**(settings | changes))


def rope_parameters(arch: LlamaArch) -> dict[str, Any]:
    """RoPE as transformers 5 writes it."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": arch.rope_theta}
    if arch.rotary_fraction != 1:
        rope["partial_rotary_factor"] = arch.rotary_fraction
    scaling = arch.rope_scaling
    if scaling is None:
        return rope
    rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind in ("yarn", "llama3", "longrope"):
        rope["original_max_position_embeddings"] = scaling.original_positions
    if scaling.kind == "llama3":
        rope |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    if scaling.kind in ("yarn", "longrope"):
        rope["attention_factor"] = scaling.attention_factor
    if scaling.kind == "yarn":
        rope |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow, "truncate": scaling.rounded}
    if scaling.kind == "longrope":
        rope |= {"short_factor": list(scaling.short_factors), "long_factor": list(scaling.long_factors)}
    return rope
