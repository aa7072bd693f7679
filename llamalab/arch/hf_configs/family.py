"""The properties implied by a `model_type` of a Hugging Face config.json: a family's row, and its windowed layers.

Source of the patterns: transformers 5.23, models/<model_type>/configuration_*.py.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from llamalab.startup.hints import Any, NamedTuple

Config = Mapping[str, Any]
_NOTHING: Config = MappingProxyType({})
# Keys that enable biases, by field of LlamaArch, as most classes spell them.
ATTENTION_BIASES = {"qkv_bias": "attention_bias", "o_bias": "attention_bias"}
USE_BIAS = {"qkv_bias": "use_bias", "o_bias": "use_bias", "ffn_bias": "use_bias"}
# Common parts of several rows.
OLMO_2 = {"qk_norm": True, "wide_qk_norm": True, "pre_norms": False, "post_norms": True}
QWEN = {"max_position_embeddings": 32_768, "use_sliding_window": False, "sliding_window": 4096}
GLM_4 = {"head_dim": 128, "num_key_value_heads": 2, "attention_bias": True, "partial_rotary_factor": 0.5}


def all_slide(config: Config, layers: int) -> tuple[int, ...]:
    """All layers are windowed."""
    return ()


def later_slide(config: Config, layers: int) -> tuple[int, ...]:
    """The first `max_window_layers` have no window (Qwen2, Qwen3)."""
    return tuple(range(min(config.get("max_window_layers", 28), layers)))


def every_other_of_the_first_slides(config: Config, layers: int) -> tuple[int, ...]:
    """Of the first `max_window_layers` every other one is windowed (Qwen2-MoE)."""
    first = config.get("max_window_layers", 28)
    return tuple(layer for layer in range(layers) if layer % 2 or layer >= first)


def last_of_each_is_full(config: Config, layers: int) -> tuple[int, ...]:
    """The last of every `sliding_window_pattern` layers has no window (Gemma 2: 2; Gemma 3: 6).

    The pattern may be a word (EXAONE 4): LLLG is 4.
    """
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 2
    every = len(pattern) if isinstance(pattern, str) else pattern
    return tuple(layer for layer in range(layers) if (layer + 1) % every == 0)


def first_of_four_is_full(config: Config, layers: int) -> tuple[int, ...]:
    """Layers 0, 4, 8 and so on have no window (CWM)."""
    return tuple(range(0, layers, 4))


def nothing_more(config: Config, layers: int) -> dict[str, Any]:
    """No further fields."""
    return {}


class Family(NamedTuple):
    """The properties of a `model_type`.

    `defaults` are the class's values of absent keys; `always` are fields of LlamaArch that the class fixes in code.
    `biases` are the keys that enable fields, by field of LlamaArch. `keys` are a file's names of keys, by the name in
    transformers' Llama. `also` are fields computed by a rule, `experts` are fields of Experts. A model with a key of
    `refused` is not supported.
    """

    defaults: Config = _NOTHING
    always: Config = _NOTHING
    biases: Config = _NOTHING
    full_layers: Callable[[Config, int], tuple[int, ...]] = all_slide
    keys: Mapping[str, str] = _NOTHING
    also: Callable[[Config, int], dict[str, Any]] = nothing_more
    refused: Mapping[str, str] = _NOTHING
    experts: Config = _NOTHING
