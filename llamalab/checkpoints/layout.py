"""Tensor names of each format, tensors that hold several weights, and the order of rotated rows.

Hugging Face rotates (x[j], x[j + R/2]), Meta (x[2j], x[2j+1]): per head, row i*(R/2) + j of the rotated part in
Hugging Face's order is row 2j + i in Meta's (i = 0, 1). This applies to wq and wk, their biases, and the norms of
heads. GGUF has Meta's order for the architecture `llama`, whose rows llama.cpp's converter permutes back, and Hugging
Face's for all others. E head dim; R its rotated part, at the beginning; D model dim.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch

_ROTATED = ("wq.weight", "wk.weight", "wq.bias", "wk.bias", "q_norm.weight", "k_norm.weight")


NONE_FUSED: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Layout(NamedTuple):
    """A format's module names, at the top level and in a layer of its `stack`.

    `fused` are modules that hold several weights concatenated, where a model is stored fused. Rotated rows are stored
    `in_halves` or as adjacent pairs.
    """

    top: dict[str, str]
    stack: str
    layer: dict[str, str]
    fused: dict[str, tuple[str, ...]]
    in_halves: bool

    @property
    def gate_up(self) -> dict[str, tuple[str, ...]]:
        """The fused module of the feed-forward (gate and up)."""
        return {theirs: members for theirs, members in self.fused.items() if members == _GATE_UP}

    def name(self, ours: str, fused: Mapping[str, tuple[str, ...]] = NONE_FUSED) -> str:
        """The name of the tensor that holds a weight or bias: one of the `fused` modules, or its own."""
        module, _, leaf = ours.rpartition(".")
        if not module.startswith("layers."):
            return f"{self.top[module]}.{leaf}"
        _, index, rest = module.split(".", 2)
        theirs = next((name for name, members in fused.items() if rest in members), None) or self.layer[rest]
        return f"{self.stack}.{index}.{theirs}.{leaf}"


_QKV, _GATE_UP = ("attention.wq", "attention.wk", "attention.wv"), ("feed_forward.w1", "feed_forward.w3")
HUGGING_FACE = Layout(
    top={"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"},
    stack="model.layers",
    layer={
        "attention.wq": "self_attn.q_proj",
        "attention.wk": "self_attn.k_proj",
        "attention.wv": "self_attn.v_proj",
        "attention.wo": "self_attn.o_proj",
        "attention.q_norm": "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w2": "mlp.down_proj",
        "feed_forward.w3": "mlp.up_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    },
    fused={"self_attn.qkv_proj": _QKV, "mlp.gate_up_proj": _GATE_UP},
    in_halves=True,
)
GGUF_LLAMA = Layout(
    top={"tok_embeddings": "token_embd", "norm": "output_norm", "output": "output"},
    stack="blk",
    layer={
        "attention.wq": "attn_q",
        "attention.wk": "attn_k",
        "attention.wv": "attn_v",
        "attention.wo": "attn_output",
        "attention.q_norm": "attn_q_norm",
        "attention.k_norm": "attn_k_norm",
        "feed_forward.w1": "ffn_gate",
        "feed_forward.w2": "ffn_down",
        "feed_forward.w3": "ffn_up",
        "attention_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
    },
    fused={"attn_qkv": _QKV, "ffn_up": _GATE_UP},
    in_halves=False,
)
GGUF_IN_HALVES = GGUF_LLAMA._replace(in_halves=True)


def hf_name(name: str) -> str:
    """Hugging Face's name of a weight that is stored by itself.

    >>> hf_name("layers.3.attention.wk.weight")
    'model.layers.3.self_attn.k_proj.weight'
    """
    return HUGGING_FACE.name(name)


def gguf_name(name: str) -> str:
    """GGUF's name of a weight that is stored by itself.

    >>> gguf_name("layers.3.feed_forward.w3.weight")
    'blk.3.ffn_up.weight'
    """
    return GGUF_LLAMA.name(name)


def is_rotated(name: str) -> bool:
    """Whether RoPE rotates the rows of a weight, so that their order depends on the format."""
    return name.endswith(_ROTATED)


def pairs_to_halves(rows: Tensor, arch: LlamaArch) -> Tensor:
    """Meta's rows of whole heads in Hugging Face's order; a copy.

    >>> pairs_to_halves(torch.arange(8), LlamaArch(8, 1, 2, 2, 8, 8)).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    >>> pairs_to_halves(torch.arange(8), LlamaArch(8, 1, 1, 1, 8, 8, rotary_fraction=0.5)).tolist()
    [0, 2, 1, 3, 4, 5, 6, 7]
    """
    return _regrouped(rows, arch, (arch.rotary_dim // 2, 2))


def halves_to_pairs(rows: Tensor, arch: LlamaArch) -> Tensor:
    """Hugging Face's rows of whole heads in Meta's order; a copy.

    >>> halves_to_pairs(torch.tensor([0, 2, 1, 3]), LlamaArch(4, 1, 1, 1, 8, 8)).tolist()
    [0, 1, 2, 3]
    """
    return _regrouped(rows, arch, (2, arch.rotary_dim // 2))


def _regrouped(rows: Tensor, arch: LlamaArch, groups: tuple[int, int]) -> Tensor:
    """The rotated rows of each head viewed as `groups` and transposed; the other rows unchanged."""
    heads = rows.view(-1, arch.head_dim, *rows.shape[1:])
    turned, rest = heads[:, : arch.rotary_dim], heads[:, arch.rotary_dim :]
    swapped = turned.reshape(-1, *groups, *rows.shape[1:]).transpose(1, 2).flatten(1, 2)
    return (torch.cat((swapped, rest), dim=1) if rest.shape[1] else swapped).reshape(rows.shape)
