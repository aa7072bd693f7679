"""Unsupported models by the `model_type` of their config.json, with the part that an architecture cannot describe."""

_MLA = "multi-head latent attention (MLA), whose cache holds compressed keys and values"
_STATE_SPACE = "state-space layers, whose memory does not grow with the context"
_LINEAR = "linear-attention layers, whose memory does not grow with the context"
MISSING: dict[str, str] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "minicpm3", "glm4_moe_lite"), _MLA),
    **dict.fromkeys(
        (
            "mamba",
            "mamba2",
            "falcon_mamba",
            "jamba",
            "bamba",
            "zamba",
            "zamba2",
            "nemotron_h",
            "falcon_h1",
            "granitemoehybrid",
            "hymba",
            "plamo2",
        ),
        _STATE_SPACE,
    ),
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "recurrent_gemma", "rwkv", "minimax", "lfm2", "kimi_linear"),
        _LINEAR,
    ),
    **dict.fromkeys(
        ("gpt2", "gpt_bigcode", "gpt_neo", "opt", "openai-gpt", "xglm", "biogpt", "bloom", "mpt"),
        "LayerNorms, no RoPE, and a feed-forward without a gate",
    ),
    **dict.fromkeys(
        ("gpt_neox", "gpt_neox_japanese", "gptj", "codegen", "falcon"),
        "attention beside a feed-forward without a gate, with norms of their own",
    ),
    "persimmon": "LayerNorms of queries and keys with biases",
    **dict.fromkeys(("t5", "bart", "mbart", "pegasus", "umt5"), "an encoder"),
    **dict.fromkeys(("bert", "roberta", "modernbert", "electra"), "attention that is not causal"),
    "llama4_text": "chunked attention and layers without RoPE",
    "dbrx": "LayerNorms around a mixture of experts",
    **dict.fromkeys(("deci", "nemotron-nas"), "a number of KV heads of its own in each layer"),
    "phi3small": "block-sparse attention",
    "bitnet": "ternary weights and norms inside its sublayers",
    "diffllama": "differences of two attention patterns",
    "apertus": "an activation with weights of its own",
    "chatglm": "names and fused tensors of its own; its transformers version has the type glm",
    "doge": "masks that are computed",
    "granite_swa": "attention sinks in a Granite",
    "gemma3n_text": "embeddings in every layer and a stream of several copies",
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), "keys shared between layers, and heads of two sizes"),
    **dict.fromkeys(("afmoe", "laguna", "mellum", "kolibri1"), "gates on its attention, or a RoPE a kind of layer"),
    **dict.fromkeys(
        ("moshi", "blt", "hrm_text", "cpmant", "ctrl", "reformer", "xlnet", "rembert", "roformer"),
        "blocks of another kind than a Llama's",
    ),
}
