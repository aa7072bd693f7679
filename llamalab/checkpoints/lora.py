"""LoRA adapters in PEFT's layout, merged: W + s B A for each matrix they target, s = alpha / r of that matrix.

A folder of adapter_config.json and adapter_model.safetensors (or .bin); lora_config reads the settings, lora_names the
tensor names. Beside pairs there may be whole weights (modules_to_save, a resized vocabulary), rows of the embedding
(trainable_token_indices) and DoRA's magnitudes m: m (W + s B A) / |W + s B A|, the norm along the inputs.
Rows of q_proj and k_proj are stored as halves (see layout). O outputs, I inputs, R rank, V vocabulary, D model dim.
Source: Hu et al. 2021, arXiv 2106.09685; Liu et al. 2024 (DoRA), arXiv 2402.09353; huggingface/peft 0.21, tuners/lora.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import StoredTensor, Survey, Weights, check_floats, model_shapes
from llamalab.checkpoints.layout import halves_to_pairs, hf_name, is_rotated
from llamalab.checkpoints.lora_change import NOTHING, WeightChange, applied, check_change, wholes
from llamalab.checkpoints.lora_config import CONFIG, Settings, adapter_settings
from llamalab.checkpoints.lora_names import sorted_names
from llamalab.checkpoints.pages import readable
from llamalab.checkpoints.safetensors_file import is_safetensors, open_safetensors
from llamalab.checkpoints.torch_file import is_torch_file, read_torch_file, stored_in
from llamalab.errors import FormatError, InputError, MissingError
from llamalab.files.inputs import read_object

KIND = "LoRA adapter, adapter_config.json and adapter_model"
_EMBEDDING, _HEAD = "tok_embeddings.weight", "output.weight"
_PER_TOKEN = (_EMBEDDING, _HEAD)


class Adapter(NamedTuple):
    """The changes, by Meta's name of the weight; `keeps_tie` where a tied head changes with the embedding."""

    changes: dict[str, WeightChange]
    keeps_tie: bool


def recognises(path: Path) -> bool:
    """Whether a folder has adapter_config.json."""
    return path.is_dir() and (path / CONFIG).is_file()


def survey(path: Path) -> Survey:
    """Settings and tensors of an adapter; it cannot be completed to a model."""
    read_object(path / CONFIG, "adapter's config")
    stored, _ = _tensors(path)

    def complete() -> Weights:
        raise FormatError("the folder must hold a whole model; this is a LoRA adapter: load its base with lora=")

    return Survey(KIND, tuple(stored), complete, ("it is an adapter, to be merged into its base",))


def read_adapter(path: str | os.PathLike[str], arch: LlamaArch) -> Adapter:
    """The adapter in a folder, checked against its base architecture except for the vocabulary.

    Raises MissingError where there is none, FormatError where it is unsound or for another architecture.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise MissingError(f"the LoRA adapter must be a folder; there is none at {folder}; check the path")
    try:
        settings = adapter_settings(read_object(folder / CONFIG, "adapter's config"))
        stored, tensor = _tensors(folder)
        check_floats(stored)
        return _adapter([entry.name for entry in stored], tensor, arch, settings)
    except InputError as error:
        raise FormatError(f"{folder} must be a sound LoRA adapter for this model; {error}") from None


def merged(weights: Weights, path: str | os.PathLike[str]) -> Weights:
    """The weights with an adapter merged in: computed in fp32, cast once. Errors as for read_adapter."""
    adapter = read_adapter(path, weights.arch)
    try:
        arch, changes = _fitted(adapter, weights.arch)
    except InputError as error:
        raise FormatError(f"{path} must be a sound LoRA adapter for this model; {error}") from None

    def source(name: str) -> str:
        return _EMBEDDING if name == _HEAD and weights.arch.tied_embeddings else name

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        kind, change = dtype or weights.dtype_of(source(name)), changes.get(name, NOTHING)
        given = change.base if change.saved is None else change.saved
        needs_sum = change.pair is not None or change.rows is not None
        first = torch.float32 if needs_sum else kind
        weight = (
            weights.fetch(source(name), dtype=first, device=device)
            if given is None
            else given.to(device=device, dtype=first)
        )
        return applied(weight, change).to(kind) if needs_sum else weight

    changed = weights._replace(arch=arch, fetch=fetch, dtype_of=lambda name: weights.dtype_of(source(name)))
    return changed._replace(fetch_part=None)


def _tensors(folder: Path) -> tuple[list[StoredTensor], Callable[[str], Tensor]]:
    for name, is_kind in (("adapter_model.safetensors", is_safetensors), ("adapter_model.bin", is_torch_file)):
        file = folder / name
        if not file.is_file():
            continue
        if not is_kind(file):
            raise FormatError(f"{name} must be what its name says; it is not")
        if name.endswith(".bin"):
            tensors = read_torch_file(file)
            return list(stored_in(tensors)), {name: readable(tensor) for name, tensor in tensors.items()}.__getitem__
        stored, tensor = open_safetensors(file)
        return list(stored.values()), tensor
    raise FormatError(f"a LoRA adapter must have adapter_model.safetensors or .bin; there is none in {folder}")


def _adapter(names: list[str], tensor: Callable[[str], Tensor], arch: LlamaArch, settings: Settings) -> Adapter:
    ours = {hf_name(name): name for name in model_shapes(arch.replace(tied_embeddings=False))}
    parts: dict[str, dict[str, Tensor]] = {}
    for found in sorted_names(names, frozenset(ours)):
        part = found.part if found.part != "whole" else "saved" if settings.is_saved(found.weight) else "base"
        if part != "ignored":
            mine = parts.setdefault(found.weight, {})
            # PEFT may write a module that was trained in full under two names; both hold the same.
            if part in mine and part != "saved":
                raise FormatError(f"{found.stored} must be in the file once; it is there under two names")
            mine[part] = tensor(found.stored)
    if not parts:
        raise FormatError("an adapter must hold pairs for a Llama's matrices; got none")
    if any(settings.token_ids.values()) and not any("rows" in mine for mine in parts.values()):
        raise FormatError(f"trainable_token_indices of {CONFIG} must go with rows of an embedding; there are none")
    changes = {ours[weight]: _change(weight, ours[weight], mine, arch, settings) for weight, mine in parts.items()}
    return Adapter(changes, settings.keeps_tie)


def _change(weight: str, name: str, parts: dict[str, Tensor], arch: LlamaArch, settings: Settings) -> WeightChange:
    module = weight.removesuffix(".weight")
    pair, magnitude = _pair(module, name, parts, settings), parts.get("magnitude")
    if (magnitude is not None) != (settings.is_dora and pair is not None):
        raise FormatError(f"use_dora of {CONFIG} must go with a magnitude for each pair; {module} has it otherwise")
    if magnitude is not None:
        magnitude = magnitude.reshape(1, -1) if "embedding_up" in parts else magnitude.reshape(-1, 1)

    def arranged(rows: Tensor | None) -> Tensor | None:
        if rows is None or not is_rotated(name):
            return rows
        if not rows.dim() or len(rows) != model_shapes(arch)[name][0]:
            raise FormatError(f"{weight} must be adapted in all its rows; got a tensor of shape {tuple(rows.shape)}")
        return halves_to_pairs(rows.contiguous(), arch)

    up = None if pair is None else arranged(pair[1])
    return WeightChange(
        base=arranged(parts.get("base")),
        saved=arranged(parts.get("saved")),
        pair=None if pair is None or up is None else (pair[0], up),
        scale=settings.scale_of(module),
        magnitude=arranged(magnitude),
        rows=_rows(module, parts.get("rows"), settings),
    )


def _pair(module: str, name: str, parts: dict[str, Tensor], settings: Settings) -> tuple[Tensor, Tensor] | None:
    down, up = parts.get("down"), parts.get("up")
    if "embedding_down" in parts or "embedding_up" in parts:
        if down is not None or up is not None or name != _EMBEDDING:
            raise FormatError(f"{module} must have a pair of its own kind; it has lora_embedding_A or B")
        # PEFT stores the pair of an embedding transposed: A (R, V), B (D, R).
        down, up = parts.get("embedding_up"), parts.get("embedding_down")
        down, up = (None if half is None else half.t() for half in (down, up))
    if down is None and up is None:
        return None
    if down is None or up is None or down.dim() != 2 or up.dim() != 2 or len(down) != up.shape[1]:
        raise FormatError(f"{module} must have lora_A (r, inputs) and lora_B (outputs, r); it has not")
    if len(down) != settings.rank_of(module):
        raise FormatError(
            f"the rank of {module} must be {settings.rank_of(module)}, as {CONFIG} says; its pair has {len(down)}"
        )
    return down, up


def _rows(module: str, values: Tensor | None, settings: Settings) -> tuple[Tensor, Tensor] | None:
    ids = settings.token_ids_of(module)
    if values is None:
        return None
    if not ids or values.dim() != 2 or len(values) != len(ids):
        raise FormatError(f"trainable_token_indices of {CONFIG} must name a row each of {module}; they do not")
    return torch.tensor(ids), values


def _fitted(adapter: Adapter, arch: LlamaArch) -> tuple[LlamaArch, dict[str, WeightChange]]:
    """The architecture with the changes applied, and the changes with those that a tied head shares."""
    changes = dict(adapter.changes)
    if arch.tied_embeddings:
        arch, changes = _untied(changes, arch, keeps_tie=adapter.keeps_tie)
    sizes = {len(whole) for name in _PER_TOKEN for whole in wholes(changes.get(name, NOTHING)) if whole.dim() == 2}
    if sizes - {arch.vocab_size}:
        needed = [name for name in _PER_TOKEN if name in model_shapes(arch)]
        if len(sizes) > 1 or not all(wholes(changes.get(name, NOTHING)) for name in needed):
            raise FormatError(
                f"an adapter with another vocabulary must bring {' and '.join(needed)} of one size; "
                f"it has {[name for name in needed if wholes(changes.get(name, NOTHING))]} of {sorted(sizes)}"
            )
        arch = arch.replace(vocab_size=sizes.pop())
    shapes = model_shapes(arch)
    for name, change in changes.items():
        check_change(name, change, shapes[name])
    return arch, changes


def _untied(
    changes: dict[str, WeightChange], arch: LlamaArch, *, keeps_tie: bool
) -> tuple[LlamaArch, dict[str, WeightChange]]:
    """A tied model stays tied where embedding and head change alike; otherwise the head becomes a weight of its own.

    A replacement of the shared weight, and new rows of the embedding, apply to both; pairs and modules trained as
    copies apply to one of them, unless the adapter's config says that PEFT kept them tied.
    """
    first, last = changes.pop(_EMBEDDING, NOTHING), changes.pop(_HEAD, NOTHING)
    base = first.base if first.base is not None else last.base
    first = first._replace(base=base)
    last = last._replace(base=base, rows=first.rows if last.rows is None else last.rows)
    of_first, of_last = (change.pair is not None or change.saved is not None for change in (first, last))
    if keeps_tie and of_last and not of_first:
        raise FormatError(
            f"ensure_weight_tying of {CONFIG} must go with changes to the embedding; the head alone has some"
        )
    is_tied = not of_last and (keeps_tie or not of_first) and _same_rows(first, last)
    both = {_EMBEDDING: first} if is_tied else {_EMBEDDING: first, _HEAD: last}
    return arch.replace(tied_embeddings=is_tied), changes | both


def _same_rows(first: WeightChange, last: WeightChange) -> bool:
    if first.rows is None or last.rows is None:
        return first.rows is last.rows
    return all(map(torch.equal, first.rows, last.rows))
