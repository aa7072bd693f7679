"""Small models of other families than Llama 2, with traits of real presets, and the same weights in transformers."""

from typing import Any

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.arch.parts import RopeScaling
from llamalab.model import Transformer
from llamalab.presets import PRESETS
from tests.arch.hf_configs.samples import hf_config

ORIGINAL = 20  # positions before RoPE was stretched: texts of tests are longer
_SMALL = {"dim": 120, "n_layers": 3, "n_heads": 12, "n_kv_heads": 4, "ffn_dim": 182, "vocab_size": 97}
_PLAIN = PRESETS["7b"].arch.replace(**_SMALL, head_dim=20, max_positions=80)


def _small(name: str, **changes: Any) -> LlamaArch:
    return PRESETS[name].arch.replace(**(_SMALL | changes))


def _stretched(kind: str, **changes: Any) -> LlamaArch:
    return _PLAIN.replace(rope_scaling=RopeScaling(kind, 4.0, ORIGINAL, **changes))


_SHORT, _LONG = tuple(1 + j / 20 for j in range(10)), tuple(1 + j / 2 for j in range(10))
FAMILIES: dict[str, LlamaArch] = {
    "llama-3.1": _small("llama-3.1-8b", rope_scaling=RopeScaling("llama3", 8.0, ORIGINAL), head_dim=20),
    "llama-3.2": _small("llama-3.2-1b", rope_scaling=RopeScaling("llama3", 32.0, ORIGINAL), head_dim=20),
    "linear": _stretched("linear"),
    "dynamic": _stretched("dynamic").replace(max_positions=ORIGINAL),
    "yarn": _stretched("yarn", attention_factor=1.14),
    "yarn, ramps between frequencies": _stretched("yarn", rounded=False, beta_fast=4.0, beta_slow=0.25),
    "longrope": _stretched("longrope", attention_factor=1.2, short_factors=_SHORT, long_factors=_LONG),
    "biases": _PLAIN.replace(qkv_bias=True, o_bias=True, ffn_bias=True),
    "nemo, heads wider than dim": _small("mistral-nemo-12b", head_dim=16),
    "mistral, window shorter than the text": _small("mistral-7b-v0.1", window=9, head_dim=20),
    "mistral, window longer than the text": _small("mistral-7b-v0.1", window=64, head_dim=20),
    "window of two keys": _small("mistral-7b-v0.1", window=2, head_dim=20),
    "qwen2.5, tied": _small("qwen2.5-0.5b", head_dim=20),
    "qwen2.5, windows in some layers": _small("qwen2.5-7b", window=7, full_layers=(0, 2), head_dim=20),
    "qwen3": _small("qwen3-8b", head_dim=24),
    "qwen3, biased": _small("qwen3-8b", head_dim=24, qkv_bias=True, o_bias=True),
    "phi-3": _small("phi-3-mini-4k", window=11, n_heads=12, n_kv_heads=12, head_dim=10),
    "phi-4-mini": _small(
        "phi-4", n_heads=6, n_kv_heads=2, head_dim=20, rotary_fraction=0.7, tied_embeddings=True, max_positions=80,
        rope_scaling=RopeScaling("longrope", 4.0, ORIGINAL, 1.2, short_factors=_SHORT[:7], long_factors=_LONG[:7]),
    ),
}  # fmt: skip


def hf_twin(model: Transformer, **changes: Any) -> Any:
    """A transformers model of the family's own class with the weights of ours, in eager attention."""
    from transformers import AutoModelForCausalLM

    arch = model.arch
    outside = {"original_max_position_embeddings": ORIGINAL} if arch.fused_on_disk and arch.rope_scaling else {}
    twin = AutoModelForCausalLM.from_config(hf_config(arch, attn_implementation="eager", **outside, **changes)).eval()
    twin.load_state_dict(hf_state(model), strict=True)
    return twin


def hf_state(model: Transformer) -> dict[str, Tensor]:
    """The weights under the names, in the order of rows and fused as the family's class has them."""
    arch = model.arch
    named = {_hf_name(name): _halves(name, weight, arch) for name, weight in model.state_dict().items()}
    if arch.tied_embeddings:
        named["lm_head.weight"] = named["model.embed_tokens.weight"]
    if arch.fused_on_disk:
        for layer in range(arch.n_layers):
            home = f"model.layers.{layer}."
            for fused, parts in {
                "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
            }.items():
                named[f"{home}{fused}.weight"] = torch.cat([named.pop(f"{home}{part}.weight") for part in parts])
    return named


_NAMES = {
    "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj", "attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm",
    "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
_TOP = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}


def _hf_name(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    if not module.startswith("layers."):
        return f"{_TOP[module]}.{leaf}"
    _, layer, rest = module.split(".", 2)
    return f"model.layers.{layer}.{_NAMES[rest]}.{leaf}"


def _halves(name: str, weight: Tensor, arch: LlamaArch) -> Tensor:
    """Meta's neighbouring pairs to Hugging Face's halves, in the turned part of every head."""
    if not any(part in name for part in (".wq.", ".wk.", ".q_norm.", ".k_norm.")):
        return weight
    heads = weight.view(-1, arch.head_dim, *weight.shape[1:])
    turned, rest = heads[:, : arch.rotary_dim], heads[:, arch.rotary_dim :]
    return torch.cat((turned[:, 0::2], turned[:, 1::2], rest), dim=1).reshape(weight.shape)
