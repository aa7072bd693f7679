"""The kind of each tensor in an adapter's file: half of a pair, magnitude, whole weight, rows of an embedding.

PEFT writes base_model.model. before the name of a module and, in files that were not saved by save_pretrained, the
adapter's own name (.default.) after what belongs to it. Source: huggingface/peft 0.21, utils/save_and_load.py.
"""

from collections.abc import Iterable
from typing import NamedTuple

from llamalab.checkpoints.tensor_names import WRAPPERS
from llamalab.errors import FormatError

_PREFIX = ["base_model", "model"]
# The part of a module that each marker in a tensor name means.
_MARKS = {
    "lora_A": "down",
    "lora_B": "up",
    "lora_embedding_A": "embedding_down",
    "lora_embedding_B": "embedding_up",
    "lora_magnitude_vector": "magnitude",
    "trainable_tokens_delta": "rows",
    "trainable_tokens_original": "ignored",
    "base_layer": "base",
    "original_module": "ignored",
    "modules_to_save": "saved",
}
_OF_WHOLE_MODULES = ("base", "ignored", "saved")
_NO_ADAPTER = ("weight", "bias")


class Tensor(NamedTuple):
    """A tensor of a file: its weight as Hugging Face names it, its `part`, and its name in the file."""

    weight: str
    part: str
    stored: str


def sorted_names(names: Iterable[str], known: frozenset[str]) -> list[Tensor]:
    """The tensors of an adapter for a model with `known` weights.

    Raises FormatError for one that belongs to none of them, and for two adapters in one file.
    """
    found, adapters = [], set()
    for name in names:
        tensor, adapter = _sorted_out(name, known)
        if tensor.weight not in known:
            raise FormatError(f"an adapter must hold pairs for a Llama's matrices, or whole weights; {name} is neither")
        found.append(tensor)
        adapters |= {adapter} - {""}
    if len(adapters) > 1:
        raise FormatError(f"a file must hold one adapter; it has {', '.join(sorted(adapters))}")
    return found


def _sorted_out(name: str, known: frozenset[str]) -> tuple[Tensor, str]:
    """A tensor, and the adapter's name where its key contains one."""
    parts = [part for part in name.split(".") if part not in WRAPPERS - {"base_layer"} and part != "token_adapter"]
    parts = parts[2:] if parts[:2] == _PREFIX else parts
    at = next((place for place, part in enumerate(parts) if part in _MARKS), None)
    if at is None:
        return Tensor(_known(parts, known), "whole", name), ""
    module, rest, part = parts[:at], parts[at + 1 :], _MARKS[parts[at]]
    if part in _OF_WHOLE_MODULES:
        weight = _known([*module, *rest], known)
        if weight in known or not rest:
            return Tensor(weight, part, name), ""
        return Tensor(_known([*module, *rest[1:]], known), part, name), rest[0]
    adapter = rest[0] if rest and rest[0] not in _NO_ADAPTER else ""
    is_weight = rest[1 if adapter else 0 :] in (["weight"], [])
    return Tensor(_known([*module, "weight"], known) if is_weight else name, part, name), adapter


def _known(parts: list[str], known: frozenset[str]) -> str:
    """A name completed by the prefix model., which adapters of the inner model lack."""
    name = ".".join(parts)
    return f"model.{name}" if name not in known and f"model.{name}" in known else name
