"""LoRA adapters: W + (alpha / r) B A for each matrix it targets.

Read in PEFT's layout: adapter_config.json and adapter_model.safetensors (or .bin), under Hugging Face's names
with `lora_A` (r, in) and `lora_B` (out, r); rows of B for q_proj and k_proj are in halves (see layout).
Embeddings and heads trained in full replace the base's, and may be larger. With `use_rslora` the factor is
alpha / sqrt(r). Source: Hu et al. 2021, arXiv 2106.09685; huggingface/peft, tuners/lora.
"""

import os
from collections.abc import Callable, Iterable
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import Stored, Survey, Weights, check_floats, model_shapes
from llamalab.checkpoints.layout import halves_to_pairs, hf_name, is_rotated, rotated_heads
from llamalab.checkpoints.safetensors_file import is_safetensors, open_safetensors
from llamalab.checkpoints.torch_file import is_torch_file, read_torch_file, stored_in
from llamalab.errors import FormatError, InputError, MissingError
from llamalab.input_files import read_object

KIND = "LoRA adapter, adapter_config.json and adapter_model"
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_PER_TOKEN = ("tok_embeddings.weight", "output.weight")
# Settings that change what an adapter does, and the values with which it does what is computed here.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": (None, "none"),
    "use_dora": (None, False),
    "fan_in_fan_out": (None, False),
    "lora_bias": (None, False),
    "alpha_pattern": (None, {}),
}


class Adapter(NamedTuple):
    """Low-rank pairs and whole replacements by Meta's name of the weight they belong to."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    replaced: dict[str, Tensor]
    scale: Callable[[int], float]  # of a pair of this rank


def recognises(path: Path) -> bool:
    """Whether a folder has adapter_config.json."""
    return path.is_dir() and (path / CONFIG).is_file()


def survey(path: Path) -> Survey:
    """What an adapter holds; it completes to no model."""
    read_object(path / CONFIG, "adapter's config")
    stored, _ = _tensors(path)

    def complete() -> Weights:
        raise FormatError("the folder must hold a whole model; this is a LoRA adapter: load its base with lora=")

    return Survey(KIND, tuple(stored), complete, ("it is an adapter, to be merged into its base",))


def read_adapter(path: str | os.PathLike[str], arch: LlamaArch) -> Adapter:
    """The adapter in a folder, checked against the architecture it is for.

    Raises MissingError where there is none, FormatError where it is unsound or not for this architecture.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise MissingError(f"the LoRA adapter must be a folder; there is none at {folder}; check the path")
    try:
        scale = _scale(read_object(folder / CONFIG, "adapter's config"))
        stored, tensor = _tensors(folder)
        check_floats(stored)
        return _sorted_out(stored, tensor, arch, scale)
    except InputError as error:
        raise FormatError(f"{folder} must be a sound LoRA adapter for this model; {error}") from None


def merged(weights: Weights, path: str | os.PathLike[str]) -> Weights:
    """The weights with an adapter merged in: computed in fp32, cast once. Errors as for read_adapter."""
    adapter, arch = read_adapter(path, weights.arch), weights.arch
    sizes = {len(tensor) for tensor in adapter.replaced.values() if tensor.dim() == 2}
    needed = {name for name in _PER_TOKEN if name in model_shapes(arch)}
    if sizes != {arch.vocab_size} and sizes:
        if len(sizes) > 1 or not needed <= adapter.replaced.keys():
            raise FormatError(
                f"an adapter with another vocabulary must bring {' and '.join(sorted(needed))} of one size; "
                f"it has {sorted(adapter.replaced)} of {sorted(sizes)}"
            )
        arch = arch.replace(vocab_size=sizes.pop())

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        kind = dtype or weights.dtype_of(name)
        if name in adapter.replaced:
            return adapter.replaced[name].to(device=device, dtype=kind)
        if name not in adapter.pairs:
            return weights.fetch(name, dtype=kind, device=device)
        down_RI, up_OR = (part.to(device=device, dtype=torch.float32) for part in adapter.pairs[name])
        change = (up_OR @ down_RI) * adapter.scale(len(down_RI))
        return (weights.fetch(name, dtype=torch.float32, device=device) + change).to(kind)

    return weights._replace(arch=arch, fetch=fetch)


def _tensors(folder: Path) -> tuple[list[Stored], Callable[[str], Tensor]]:
    for name, is_kind in (("adapter_model.safetensors", is_safetensors), ("adapter_model.bin", is_torch_file)):
        file = folder / name
        if not file.is_file():
            continue
        if not is_kind(file):
            raise FormatError(f"{name} must be what its name says; it is not")
        if name.endswith(".bin"):
            tensors = read_torch_file(file)
            return list(stored_in(tensors)), tensors.__getitem__
        stored, tensor = open_safetensors(file)
        return list(stored.values()), tensor
    raise FormatError(f"a LoRA adapter must have adapter_model.safetensors or .bin; there is none in {folder}")


def _scale(config: dict[str, Any]) -> Callable[[int], float]:
    for key, plain in _PLAIN.items():
        if config.get(key) not in plain:
            raise FormatError(f"{key} of {CONFIG} must be {plain[-1]!r}; got {config.get(key)!r}")
    alpha, root = config.get("lora_alpha"), bool(config.get("use_rslora"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e9:
        raise FormatError(f"lora_alpha of {CONFIG} must be a number; got {alpha!r}")
    return lambda rank: float(alpha) / (sqrt(rank) if root else rank)


def _sorted_out(
    stored: Iterable[Stored], tensor: Callable[[str], Tensor], arch: LlamaArch, scale: Callable[[int], float]
) -> Adapter:
    shapes = {entry.name: entry.shape for entry in stored}
    pairs, replaced = {}, {}
    for name, (rows, *columns) in model_shapes(arch).items():
        module = _PREFIX + hf_name(name).removesuffix(".weight")
        down, up, whole = (f"{module}.{part}" for part in ("lora_A.weight", "lora_B.weight", "weight"))
        if down in shapes and up in shapes and len(columns) == 1:
            down_shape, up_shape = shapes.pop(down), shapes.pop(up)
            if len(down_shape) != 2 or down_shape[1] != columns[0] or up_shape != (rows, down_shape[0]):
                raise FormatError(f"{down} and lora_B must be (r, {columns[0]:,}) and ({rows:,}, r); got "
                                  f"{down_shape} and {up_shape}")  # fmt: skip
            up_OR = tensor(up)
            pairs[name] = (
                tensor(down),
                halves_to_pairs(up_OR, rotated_heads(name, arch)) if is_rotated(name) else up_OR,
            )
        elif whole in shapes and name in _PER_TOKEN:
            if shapes[whole][1:] != tuple(columns) or not shapes[whole][0]:
                raise FormatError(f"{whole} must have rows of {columns[0]:,}; got {shapes[whole]}")
            shapes.pop(whole)
            replaced[name] = tensor(whole)
    if shapes or not (pairs or replaced):
        raise FormatError(f"an adapter must hold pairs for a Llama's matrices; got {sorted(shapes)[:3] or 'none'}")
    return Adapter(pairs, replaced, scale)
