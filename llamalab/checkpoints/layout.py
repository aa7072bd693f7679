"""The name of each weight in other formats, and the order of its rows there.

Hugging Face rotates (x[j], x[j + E/2]), Meta (x[2j], x[2j+1]): per head, row i*(E/2) + j of wq and wk there
is row 2j + i here (i = 0, 1). GGUF keeps Meta's order: llama.cpp's converter permutes a Hugging Face
checkpoint back. H heads (K for wk), E head dim, D model dim.
"""

from torch import Tensor

from llamalab.arch import LlamaArch

_HF_LAYER = {
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
_HF_TOP = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
_GGUF_LAYER = {
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}
_GGUF_TOP = {"tok_embeddings": "token_embd", "norm": "output_norm", "output": "output"}


def hf_name(name: str) -> str:
    """Hugging Face's name of a weight.

    >>> hf_name("layers.3.attention.wk.weight")
    'model.layers.3.self_attn.k_proj.weight'
    """
    return _renamed(name, _HF_TOP, "model.layers", _HF_LAYER)


def gguf_name(name: str) -> str:
    """GGUF's name of a weight.

    >>> gguf_name("layers.3.feed_forward.w3.weight")
    'blk.3.ffn_up.weight'
    """
    return _renamed(name, _GGUF_TOP, "blk", _GGUF_LAYER)


def is_rotated(name: str) -> bool:
    """Whether the rows of a weight are rotated in pairs, so that their order depends on the format."""
    return name.endswith(("attention.wq.weight", "attention.wk.weight"))


def rotated_heads(name: str, arch: LlamaArch) -> int:
    """How many heads the rows of wq or wk belong to."""
    return arch.n_heads if name.endswith("wq.weight") else arch.n_kv_heads


def pairs_to_halves(weight: Tensor, heads: int) -> Tensor:
    """Meta's rows in Hugging Face's order; a copy.

    >>> import torch
    >>> pairs_to_halves(torch.arange(8)[:, None], heads=2).flatten().tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def halves_to_pairs(weight: Tensor, heads: int) -> Tensor:
    """Hugging Face's rows in Meta's order; a copy.

    >>> import torch
    >>> halves_to_pairs(torch.tensor([0, 2, 1, 3])[:, None], heads=1).flatten().tolist()
    [0, 1, 2, 3]
    """
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def _renamed(name: str, top: dict[str, str], stack: str, layer: dict[str, str]) -> str:
    module = name.removesuffix(".weight")
    if not module.startswith("layers."):
        return f"{top[module]}.weight"
    _, index, rest = module.split(".", 2)
    return f"{stack}.{index}.{layer[rest]}.weight"
