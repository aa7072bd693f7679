"""The same weights in Hugging Face's Llama: names, and the permutation of the rotated heads."""

from typing import Any

from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.model import Transformer

_LAYER_NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP_NAMES = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}


def hf_model(model: Transformer, *, permute: bool = True) -> Any:
    """A transformers model with the weights of ours, in eager attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    arch = model.arch
    config = LlamaConfig(
        hidden_size=arch.dim,
        intermediate_size=arch.ffn_dim,
        num_hidden_layers=arch.n_layers,
        num_attention_heads=arch.n_heads,
        num_key_value_heads=arch.n_kv_heads,
        vocab_size=arch.vocab_size,
        rms_norm_eps=arch.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": arch.rope_theta},
        max_position_embeddings=4096,
        tie_word_embeddings=arch.tied_embeddings,
        attn_implementation="eager",
    )
    state = {_hf_name(name): _hf_weight(name, weight, arch, permute) for name, weight in model.state_dict().items()}
    if arch.tied_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    reference = LlamaForCausalLM(config).eval()
    reference.load_state_dict(state, strict=True)
    return reference


def _hf_name(name: str) -> str:
    module = name.removesuffix(".weight")
    if not module.startswith("layers."):
        return f"{_TOP_NAMES[module]}.weight"
    _, layer, rest = module.split(".", 2)
    return f"model.layers.{layer}.{_LAYER_NAMES[rest]}.weight"


def _hf_weight(name: str, weight: Tensor, arch: LlamaArch, permute: bool) -> Tensor:
    """Meta's neighbouring pairs of wq and wk rows to Hugging Face's halves, head by head."""
    if not permute or not name.endswith(("wq.weight", "wk.weight")):
        return weight
    heads = arch.n_heads if name.endswith("wq.weight") else arch.n_kv_heads
    return weight.view(heads, arch.head_dim // 2, 2, arch.dim).transpose(1, 2).reshape(weight.shape)
