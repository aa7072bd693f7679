"""The architecture of a Hugging Face `config.json`, with the defaults of transformers' own classes.

The class of the `model_type` decides on absent keys (`families`); null has the effect that it has in the class.
RoPE may be given in the form of transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters).
"""

import math

from llamalab.arch import LlamaArch
from llamalab.arch.fields import MAX_LAYERS, MAX_SIZE
from llamalab.arch.hf_configs.families import FAMILIES
from llamalab.arch.hf_configs.family import Family
from llamalab.arch.hf_configs.missing import MISSING
from llamalab.arch.parts import MAX_EXPERTS, Experts, RopeScaling, check_number
from llamalab.checks import whole
from llamalab.errors import FormatError, InputError
from llamalab.startup.hints import Any

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu2": "relu2",
}
_OTHER_SENSES = ("vision_config", "audio_config", "speech_config", "vision_tower", "mm_vision_tower", "visual")
_LATENT = ("kv_lora_rank", "q_lora_rank")
_STATE = ("mamba_d_state", "ssm_state_size", "state_size", "ssm_cfg", "linear_num_key_heads")


def from_hf_config(config: dict[str, Any]) -> LlamaArch:
    """Read a Hugging Face `config.json`; the text_config of a text-only model is read in its place.

    Raises FormatError, naming the model and the unsupported part (MLA, state-space hybrids, multimodal wrappers,
    another activation or RoPE); InputError for invalid values, KeyError for missing sizes.
    """
    _refuse_other_senses(config)
    if isinstance(config.get("text_config"), dict) and "hidden_size" not in config:
        return from_hf_config(config["text_config"])
    family = _family(config)
    full = {**family.defaults, **config}
    full |= {ours: full[theirs] for ours, theirs in family.keys.items() if full.get(theirs) is not None}
    dim, n_heads = _whole(full, "hidden_size"), _whole(full, "num_attention_heads")
    n_layers = _whole(full, "num_hidden_layers", most=MAX_LAYERS)
    fields: dict[str, Any] = {
        "dim": dim,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": _given(full, "num_key_value_heads", n_heads),
        "ffn_dim": full["intermediate_size"],
        "vocab_size": full["vocab_size"],
        "norm_eps": _given(full, "rms_norm_eps", 1e-6),
        "tied_embeddings": _flag(full, "tie_word_embeddings"),
        "max_positions": _positions(full),
        "head_dim": _whole(full, "head_dim", dim // n_heads),
        "experts": _experts(full, family, n_layers),
        **_rope_fields(full),
        **_window_fields(full, family, n_layers),
        **_cap_fields(full),
        **family.always,
        **{field: _flag(full, key) for field, key in family.biases.items()},
        **family.also(full, n_layers),
    }
    return LlamaArch(activation=_activation(full), **fields)


def _given(data: dict[str, Any], key: str, default: Any) -> Any:
    """The value of a key, or the default where it is absent or null; a 0 is not replaced."""
    value = data.get(key)
    return default if value is None else value


def _whole(data: dict[str, Any], key: str, default: Any = None, *, least: int = 1, most: int = MAX_SIZE) -> int:
    """A count; required without a default."""
    value = data[key] if default is None else _given(data, key, default)
    return whole(value, f"{key} of config.json", least=least, most=most)


def _number(data: dict[str, Any], key: str, default: Any = None) -> float:
    value: float = data[key] if default is None else _given(data, key, default)
    check_number(f"{key} of config.json", value)
    return value


def _flag(data: dict[str, Any], key: str, *, default: bool = False) -> bool:
    value = _given(data, key, default)
    if type(value) is not bool:
        raise InputError(f"{key} of config.json must be true or false; got {value!r}")
    return value


def _positions(config: dict[str, Any]) -> int:
    return _whole(config, "max_position_embeddings", 2048)


def _refuse_other_senses(config: dict[str, Any]) -> None:
    senses = [key for key in _OTHER_SENSES if config.get(key)]
    if not senses:
        return
    text = config.get("text_config") or config.get("llm_config")
    inner = f" around a {text.get('model_type', 'llama')!r} text model" if isinstance(text, dict) else ""
    raise FormatError(
        f"a config.json must describe a text model; {config.get('model_type')!r} is a multimodal wrapper{inner}, and "
        f"its {senses[0]} is not described here; save its text_config as a config.json of its own"
    )


def _family(config: dict[str, Any]) -> Family:
    name = config.get("model_type", "llama")
    missing = MISSING.get(name) if isinstance(name, str) else None
    if missing is None and any(config.get(key) for key in _LATENT):
        missing = MISSING["deepseek_v2"]
    if missing is None and any(config.get(key) for key in _STATE):
        missing = MISSING["mamba"]
    if missing is None and isinstance(name, str) and name in FAMILIES:
        missing = next((what for key, what in FAMILIES[name].refused.items() if config.get(key)), None)
    if missing is not None:
        raise FormatError(f"model_type of config.json must be of the Llama family; {name!r} has {missing}")
    if not isinstance(name, str) or name not in FAMILIES:
        raise FormatError(f"model_type of config.json must be one of {', '.join(FAMILIES)}; got {name!r}")
    return FAMILIES[name]


def _activation(config: dict[str, Any]) -> str:
    # Gemma 1 files have an outdated activation in hidden_act; the newer key counts.
    name = _given(config, "hidden_activation", _given(config, "hidden_act", "silu"))
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise FormatError(f"hidden_act of config.json must be one of {', '.join(_ACTIVATIONS)}; got {name!r}")
    return _ACTIVATIONS[name]


def _cap_fields(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "attention_softcap": config.get("attn_logit_softcapping"),
        "logits_softcap": config.get("final_logit_softcapping"),
    }


def _window_fields(config: dict[str, Any], family: Family, n_layers: int) -> dict[str, Any]:
    # Files of models without a window may have 0, null, or a key that disables it.
    window = config.get("sliding_window") if _flag(config, "use_sliding_window", default=True) else None
    kinds = config.get("layer_types")
    if not window:
        return {}
    if kinds is None:
        full = family.full_layers(config, n_layers)
    elif not isinstance(kinds, list):
        raise FormatError(f"layer_types of config.json must be a list; got {type(kinds).__name__}")
    else:
        full = tuple(layer for layer, kind in enumerate(kinds[:n_layers]) if kind == "full_attention")
        others = sorted({str(kind) for kind in kinds} - {"full_attention", "sliding_attention"})
        if others:
            raise FormatError(f"layer_types of config.json must be full_attention or sliding_attention; got {others}")
    return {} if len(full) == n_layers else {"window": window, "full_layers": full}


def _experts(config: dict[str, Any], family: Family, n_layers: int) -> Experts | None:
    # Mixtral, Qwen and DeepSeek have different keys for the same sizes.
    names = [name for name in ("num_local_experts", "num_experts", "n_routed_experts") if config.get(name)]
    if not names:
        return None
    number = _whole(config, names[0], most=MAX_EXPERTS)
    width = _whole(config, "moe_intermediate_size", _whole(config, "intermediate_size"))
    several = _whole(config, "n_shared_experts", 0, least=0, most=MAX_EXPERTS)
    shared = _whole(config, "shared_expert_intermediate_size", several * width, least=0)
    step = _whole(config, "decoder_sparse_step", _given(config, "moe_layer_freq", 1))
    phase = 1 if "decoder_sparse_step" in config else 0  # Qwen counts layers from 1, DeepSeek from 0
    first = _whole(config, "first_k_dense_replace", 0, least=0)
    plain = set(_given(config, "mlp_only_layers", ())) | set(range(min(first, n_layers)))
    dense = tuple(layer for layer in range(n_layers) if layer in plain or (layer + phase) % step)
    gated = "shared_expert_intermediate_size" in config and shared > 0
    active, others = config["num_experts_per_tok"], family.experts
    return Experts(number, active, width, shared, shared_gate=gated, dense_layers=dense, **others)


def _rope_fields(config: dict[str, Any]) -> dict[str, Any]:
    rope = _object(config, "rope_parameters") or _object(config, "rope_scaling")
    if "full_attention" in rope:  # RoPE by kind of layer: that of the layers without a window
        rope = _object(rope, "full_attention")
    theta = _given(rope, "rope_theta", _given(config, "rope_theta", 10_000.0))
    fraction = _given(rope, "partial_rotary_factor", _given(config, "partial_rotary_factor", 1.0))
    return {"rope_theta": theta, "rotary_fraction": fraction, "rope_scaling": _rope_scaling(config, rope)}


def _object(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, dict):
        raise FormatError(f"{key} of config.json must hold an object; got {type(value).__name__}")
    return value


def _rope_scaling(config: dict[str, Any], rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("default", "mrope"):  # for text alone, the three positions of mrope are equal
        return None
    if "short_factor" in rope:
        kind = "longrope"  # Phi-3's first files call it su or yarn
    positions = _positions(config)
    # In transformers the outer key takes precedence, as in Phi-3's files; dynamic NTK's is the context itself.
    key = "original_max_position_embeddings"
    original = positions if kind == "dynamic" else _whole(config, key, _whole(rope, key, positions), least=2)
    factor = _number(rope, "factor", positions / original)
    if kind in ("linear", "dynamic"):
        return RopeScaling(kind, rope["factor"], original)
    if kind == "llama3":
        return RopeScaling(
            kind,
            rope["factor"],
            original,
            low_freq_factor=rope["low_freq_factor"],
            high_freq_factor=rope["high_freq_factor"],
        )
    if kind == "yarn":
        return RopeScaling(
            kind,
            factor,
            original,
            _yarn_attention(rope, factor),
            beta_fast=rope.get("beta_fast") or 32.0,
            beta_slow=rope.get("beta_slow") or 1.0,
            rounded=rope.get("truncate", True),
        )
    if kind == "longrope":
        short, long = tuple(rope["short_factor"]), tuple(rope["long_factor"])
        attention = _given(rope, "attention_factor", _longrope_attention(factor, original))
        return RopeScaling(kind, factor, original, attention, short_factors=short, long_factors=long)
    raise FormatError(
        f"rope_type of config.json must be default, linear, dynamic, yarn, llama3 or longrope; got {kind!r}"
    )


def _yarn_attention(rope: dict[str, Any], factor: float) -> float:
    """The factor on cosine and sine, mscale in files (arXiv 2309.00071, equation 22; the quotient is DeepSeek's)."""

    def grown(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if rope.get("attention_factor") is not None:
        return _number(rope, "attention_factor")
    if not rope.get("mscale") or not rope.get("mscale_all_dim"):
        return grown(1.0)
    return grown(_number(rope, "mscale")) / grown(_number(rope, "mscale_all_dim"))


def _longrope_attention(factor: float, original: int) -> float:
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
