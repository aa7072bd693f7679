"""Known models by name, one row each with its source.

Sizes are those of the published `params.json` files. `basis` names what a reader should know
before quoting a row.
"""

from typing import NamedTuple

from llamalab.arch import LlamaArch, read_arch
from llamalab.errors import UnknownNameError


class Preset(NamedTuple):
    """A named architecture and where its numbers come from."""

    arch: LlamaArch
    title: str
    source: str


_META = "meta-llama/llama params.json"
_LLAMA1 = "Touvron et al. 2023, LLaMA, table 2 (arXiv 2302.13971)"

PRESETS: dict[str, Preset] = {
    "7b": Preset(LlamaArch(4096, 32, 32, 32, 11008, 32000), "Llama 2 7B", _META),
    "13b": Preset(LlamaArch(5120, 40, 40, 40, 13824, 32000), "Llama 2 13B", _META),
    # Llama 2 34B was never released; Code Llama 34B has its shape.
    "34b": Preset(
        LlamaArch(8192, 48, 64, 8, 22016, 32000, 1e-5, 1_000_000.0, max_positions=16384),
        "CodeLlama-34B shape",
        "codellama/CodeLlama-34b-hf config.json",
    ),
    "70b": Preset(LlamaArch(8192, 80, 64, 8, 28672, 32000), "Llama 2 70B", _META),
    "llama1-7b": Preset(LlamaArch(4096, 32, 32, 32, 11008, 32000, 1e-6, max_positions=2048), "LLaMA 7B", _LLAMA1),
    "llama1-13b": Preset(LlamaArch(5120, 40, 40, 40, 13824, 32000, 1e-6, max_positions=2048), "LLaMA 13B", _LLAMA1),
    "llama1-33b": Preset(LlamaArch(6656, 60, 52, 52, 17920, 32000, 1e-6, max_positions=2048), "LLaMA 33B", _LLAMA1),
    "llama1-65b": Preset(LlamaArch(8192, 80, 64, 64, 22016, 32000, 1e-5, max_positions=2048), "LLaMA 65B", _LLAMA1),
    "tiny": Preset(
        LlamaArch(288, 6, 6, 6, 768, 32000, tied_embeddings=True, max_positions=256),
        "15M parameters, the shape of stories15M",
        "karpathy/llama2.c README, table of models",
    ),
    "stories260k": Preset(
        LlamaArch(64, 5, 8, 4, 172, 512, tied_embeddings=True, max_positions=512),
        "260K parameters, GQA 8/4",
        "karpathy/llama2.c doc/stories260K.md",
    ),
}


def resolve_model(name: str) -> tuple[str, LlamaArch]:
    """The name and architecture of a preset, or of a `params.json` or `config.json` path.

    >>> resolve_model("7b")[1].n_layers
    32
    """
    if name in PRESETS:
        return name, PRESETS[name].arch
    if name.lower().endswith(".json"):
        return name, read_arch(name)
    raise UnknownNameError("model", name, PRESETS, hint=" or a path to params.json or config.json")
