"""The architectures of GGUF for dense Llamas: one row each, with the fields that are fixed and those a file may set.

Source: llama.cpp src/models/<name>.cpp, 2026, and gguf-py/gguf/tensor_mapping.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from llamalab.arch import ON_DISK, LlamaArch
from llamalab.checkpoints.arrangement import Arrangement, arranged
from llamalab.checkpoints.layout import GGUF_IN_HALVES, GGUF_LLAMA, Layout
from llamalab.errors import FormatError, InputError

# Fields of LlamaArch that follow from a tensor being stored: the module whose bias it is.
BIASES = {"qkv_bias": "attention.wv", "o_bias": "attention.wo", "ffn_bias": "feed_forward.w2"}
_RAMP = (True, 32.0, 1.0)  # the only one that llama.cpp has for these architectures
_SCALINGS = ("linear", "yarn")
_WITH_DIVISORS = (*_SCALINGS, "llama3", "longrope")


class Architecture(NamedTuple):
    """`always` are fields fixed by its code, `may` those that a file can set; `scalings` the kinds of scaled RoPE."""

    name: str
    layout: Layout
    always: Mapping[str, Any]
    may: tuple[str, ...]
    scalings: tuple[str, ...]

    def lacks(self, arch: LlamaArch) -> tuple[str, ...]:
        """The first property of a model that no file of this architecture can express; empty where there is none."""
        wrong = [name for name, value in self.always.items() if getattr(arch, name) != value]
        # A fused tensor is split where the architecture has no fused one.
        said = {*self.always, *self.may, "rope_scaling", *ON_DISK}
        wrong += [name for name in arch.beyond_llama_2 if name not in said]
        scaling = arch.rope_scaling
        if scaling is not None and scaling.kind not in self.scalings:
            wrong.append(f"a RoPE stretched by {scaling.kind}")
        elif scaling is not None and (scaling.rounded, scaling.beta_fast, scaling.beta_slow) != _RAMP:
            wrong.append("a ramp of YaRN's other than that from 32 turns to 1, rounded")
        return tuple(wrong)

    def arranged(self, arch: LlamaArch) -> Arrangement:
        """The tensors of a model in a file of this architecture."""
        apart = dict.fromkeys(ON_DISK, False) | {"fused_on_disk": "fused_on_disk" in self.always}
        return arranged(arch.replace(**apart), self.layout)


# Special architectures first; a model that is none of them is written as a plain llama.
ARCHITECTURES = (
    Architecture("qwen3", GGUF_IN_HALVES, {"qk_norm": True}, ("head_dim",), _SCALINGS),
    Architecture("phi3", GGUF_IN_HALVES, {"fused_on_disk": True}, ("window", "rotary_fraction"), _WITH_DIVISORS),
    Architecture("qwen2", GGUF_IN_HALVES, {"qkv_bias": True}, (), _SCALINGS),
    Architecture("llama", GGUF_LLAMA, {}, ("head_dim", "qkv_bias", "o_bias", "ffn_bias"), _WITH_DIVISORS),
)


def architecture_called(name: Any) -> Architecture:
    """The row of a file's general.architecture. Raises FormatError for any other."""
    for row in ARCHITECTURES:
        if name == row.name.encode():
            return row
    known = ", ".join(row.name for row in ARCHITECTURES)
    raise FormatError(f"general.architecture of a GGUF file must be one of {known}; got {name!r}")


def architecture_of(arch: LlamaArch) -> Architecture:
    """The first row that can express a model, for writing it. Raises InputError where there is none.

    >>> architecture_of(LlamaArch(8, 1, 2, 1, 8, 8, qkv_bias=True)).name
    'qwen2'
    """
    nearest = min(ARCHITECTURES, key=lambda row: len(row.lacks(arch)))
    if not nearest.lacks(arch):
        return nearest
    known = ", ".join(row.name for row in ARCHITECTURES)
    raise InputError(
        f"a GGUF file must be of {known} to be written; the nearest, {nearest.name}, has no word for "
        f"{', '.join(nearest.lacks(arch))} as here"
    )
