"""What a `model_type` of a Hugging Face config.json implies: the row of a family, and which layers slide.

Source of the patterns: transformers 5.23, models/<model_type>/configuration_*.py.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Config = Mapping[str, Any]
_NOTHING: Config = MappingProxyType({})


def all_slide(config: Config, layers: int) -> tuple[int, ...]:
    """No layer sees beyond the window."""
    return ()


def later_slide(config: Config, layers: int) -> tuple[int, ...]:
    """The first `max_window_layers` see everything (Qwen2, Qwen3)."""
    return tuple(range(min(config.get("max_window_layers", 28), layers)))


def every_other_of_the_first_slides(config: Config, layers: int) -> tuple[int, ...]:
    """Of the first `max_window_layers` every other one slides (Qwen2-MoE)."""
    first = config.get("max_window_layers", 28)
    return tuple(layer for layer in range(layers) if layer % 2 or layer >= first)


def last_of_each_is_full(config: Config, layers: int) -> tuple[int, ...]:
    """One of every `sliding_window_pattern` layers sees everything: the last (Gemma 2: 2; Gemma 3: 6).

    The pattern may be spelled (EXAONE 4): LLLG is 4.
    """
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 2
    every = len(pattern) if isinstance(pattern, str) else pattern
    return tuple(layer for layer in range(layers) if (layer + 1) % every == 0)


def first_of_four_is_full(config: Config, layers: int) -> tuple[int, ...]:
    """Layers 0, 4, 8 and so on see everything (CWM)."""
    return tuple(range(0, layers, 4))


def nothing_more(config: Config, layers: int) -> dict[str, Any]:
    """The row says all."""
    return {}


class Family(NamedTuple):
    """What a `model_type` implies.

    `defaults` are what its class takes where the file is silent; `always` are fields of LlamaArch that the class fixes
    in code. `biases` are the keys of the config that switch fields on, by field of LlamaArch. `keys` are names that a
    file gives to what transformers' Llama calls otherwise, by the latter. `also` are fields that take a rule, `experts`
    are fields of Experts. With a key of `refused` the model has what is described nowhere here.
    """

    defaults: Config = _NOTHING
    always: Config = _NOTHING
    biases: Config = _NOTHING
    full_layers: Callable[[Config, int], tuple[int, ...]] = all_slide
    keys: Mapping[str, str] = _NOTHING
    also: Callable[[Config, int], dict[str, Any]] = nothing_more
    refused: Mapping[str, str] = _NOTHING
    experts: Config = _NOTHING
