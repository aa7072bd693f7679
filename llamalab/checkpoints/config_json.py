"""An architecture as a Hugging Face config.json, of the first `model_type` that can express all of it.

A type is accepted where hf_configs.config reads the file back as the same architecture. Each family is a row with
its own keys. transformers 4 and 5 both read this spelling.
"""

from typing import Any, NamedTuple

import torch

from llamalab.arch import LlamaArch
from llamalab.arch.hf_configs.config import from_hf_config
from llamalab.arch.parts import RopeScaling
from llamalab.errors import InputError

_TORCH_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
_WINDOWS = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
_PHI_3 = ("sliding_window", "partial_rotary_factor", "original_max_position_embeddings")


class _Type(NamedTuple):
    """A model_type: its class, its additional keys, and the keys of scaled RoPE that the class derives itself."""

    name: str
    model_class: str
    keys: tuple[str, ...]
    derives: tuple[str, ...] = ()


_TYPES = (
    _Type("llama", "LlamaForCausalLM", ("attention_bias", "mlp_bias", "pretraining_tp")),
    _Type("mistral", "MistralForCausalLM", ("sliding_window",)),
    _Type("qwen2", "Qwen2ForCausalLM", _WINDOWS),
    _Type("qwen3", "Qwen3ForCausalLM", ("attention_bias", *_WINDOWS)),
    _Type("phi3", "Phi3ForCausalLM", _PHI_3, ("factor", "attention_factor", "original_max_position_embeddings")),
    _Type("phi3", "Phi3ForCausalLM", _PHI_3, ("original_max_position_embeddings",)),
    _Type("ministral", "MinistralForCausalLM", ("sliding_window", "layer_types")),
    _Type("glm", "GlmForCausalLM", ("attention_bias", "partial_rotary_factor")),
    _Type("helium", "HeliumForCausalLM", ("attention_bias", "mlp_bias")),
    _Type("ernie4_5", "Ernie4_5ForCausalLM", ("use_bias",)),
    _Type("seed_oss", "SeedOssForCausalLM", ("attention_bias", "attention_out_bias", "mlp_bias")),
)


def config_json(arch: LlamaArch, dtype: torch.dtype) -> dict[str, Any]:
    """The config.json of an architecture. Raises InputError where no model_type can express it.

    >>> from llamalab.presets import PRESETS
    >>> config_json(PRESETS["mistral-7b-v0.1"].arch, torch.bfloat16)["model_type"]
    'mistral'
    """
    for kind in _TYPES:
        config = _spelled(arch, kind)
        if _says(config, arch):
            return config | {"torch_dtype": _TORCH_NAMES[dtype], "use_cache": True}
    names, what = ", ".join(dict.fromkeys(kind.name for kind in _TYPES)), ", ".join(arch.beyond_llama_2)
    raise InputError(f"a Hugging Face checkpoint must be of the type {names} to be written; none has {what} as here")


def _says(config: dict[str, Any], arch: LlamaArch) -> bool:
    try:
        return from_hf_config(config) == arch
    except InputError:  # a file without the keys that this type cannot hold may describe no valid architecture
        return False


def _spelled(arch: LlamaArch, kind: _Type) -> dict[str, Any]:
    own = _not_of_all(arch)
    return {
        "architectures": [kind.model_class],
        "model_type": kind.name,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": arch.head_dim,
        "hidden_act": "silu",
        "hidden_size": arch.dim,
        "initializer_range": 0.02,
        "intermediate_size": arch.ffn_dim,
        "max_position_embeddings": arch.max_positions,
        "num_attention_heads": arch.n_heads,
        "num_hidden_layers": arch.n_layers,
        "num_key_value_heads": arch.n_kv_heads,
        "pad_token_id": None,
        "rms_norm_eps": arch.norm_eps,
        "rope_scaling": None if arch.rope_scaling is None else _stretched(arch, arch.rope_scaling, kind.derives),
        "rope_theta": arch.rope_theta,
        "tie_word_embeddings": arch.tied_embeddings,
        "vocab_size": arch.vocab_size,
    } | {key: own[key] for key in kind.keys if key in own}


def _not_of_all(arch: LlamaArch) -> dict[str, Any]:
    slides = arch.window is not None
    own: dict[str, Any] = {
        "attention_bias": arch.qkv_bias,
        "attention_out_bias": arch.o_bias,
        "mlp_bias": arch.ffn_bias,
        "use_bias": arch.ffn_bias,
        "pretraining_tp": 1,
        "use_sliding_window": slides,
        "sliding_window": arch.window,
        # Read by versions of transformers before layer_types.
        "max_window_layers": len(arch.full_layers) if slides else arch.n_layers,
        "layer_types": [
            "full_attention" if arch.window_of(layer) is None else "sliding_attention" for layer in range(arch.n_layers)
        ],
        "partial_rotary_factor": arch.rotary_fraction,
    }
    scaling = arch.rope_scaling
    return own if scaling is None else own | {"original_max_position_embeddings": scaling.original_positions}


def _stretched(arch: LlamaArch, scaling: RopeScaling, derives: tuple[str, ...]) -> dict[str, Any]:
    """The rope_scaling settings of an architecture, under the keys of its kind, except those that its class derives."""
    original = {"original_max_position_embeddings": scaling.original_positions}
    words: dict[str, dict[str, Any]] = {
        # The default is the context length of the model.
        "linear": {} if scaling.original_positions == arch.max_positions else original,
        "dynamic": {},
        "llama3": {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            **original,
        },
        "yarn": {
            "attention_factor": scaling.attention_factor,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            "truncate": scaling.rounded,
            **original,
        },
        "longrope": {
            "attention_factor": scaling.attention_factor,
            **original,
            "short_factor": list(scaling.short_factors),
            "long_factor": list(scaling.long_factors),
        },
    }
    # Phi-3's class in transformers 4 accepts only three keys, and the type by its older name.
    kind = {"type" if derives else "rope_type": scaling.kind, "factor": scaling.factor}
    return {key: value for key, value in (kind | words[scaling.kind]).items() if key not in derives}
