"""Folders of Meta's: `params.json` and 1 to 8 shards `consolidated.NN.pth`, merged along the right axes.

Shards are those of fairscale's parallel layers: outputs are split for wq, wk, wv, w1, w3 and output (axis 0), inputs
for wo and w2 (axis 1); the embedding is split along D (axis 1); norms are repeated. `rope.freqs` is ignored. One shard
may be called consolidated.pth; names may have fairscale's and other wrappers (tensor_names).
Source: meta-llama/llama 689c7f2, llama/model.py; fairscale nn/model_parallel/layers.py.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llamalab.arch import ON_DISK, LlamaArch
from llamalab.arch.files import read_arch
from llamalab.arch.meta_params import from_meta_params, meta_ffn_dim
from llamalab.checkpoints.checkpoint import (
    StoredTensor,
    Survey,
    Weights,
    check_floats,
    check_no_others,
    check_tensors,
    common_dtype,
    model_shapes,
)
from llamalab.checkpoints.nature import nature
from llamalab.checkpoints.pages import drop_pages, readable, settled
from llamalab.checkpoints.tensor_names import without_wrappers
from llamalab.checkpoints.torch_file import is_torch_file, read_torch_file, stored_in
from llamalab.errors import FormatError, InputError
from llamalab.files.inputs import read_object

KIND = "Meta, params.json and consolidated.NN.pth"
MAX_SHARDS = 64
IGNORED = "rope.freqs"
_SHARD = re.compile(r"consolidated\.(\d\d)\.pth")
_ONLY = "consolidated.pth"
_SPLIT_INPUTS = ("tok_embeddings.weight", "attention.wo.weight", "feed_forward.w2.weight")


def recognises(path: Path) -> bool:
    """Whether a folder has params.json and a shard."""
    return path.is_dir() and (path / "params.json").is_file() and bool(_shard_files(path))


def survey(path: Path) -> Survey:
    """Architecture and tensors of the shards. Raises FormatError where one is missing or unsound."""
    files = _shard_files(path)
    numbers = [int(found[1]) if (found := _SHARD.fullmatch(file.name)) else 0 for file in files]
    if numbers != list(range(len(files))) or len(files) > MAX_SHARDS:
        raise FormatError(f"the shards must be numbered from 00 on without a gap; got {numbers}")
    for file in files:
        if not is_torch_file(file):
            raise FormatError(f"{file.name} must be a file of torch.save; it is {nature(file)}")
    shards = [_unwrapped(read_torch_file(file)) for file in files]
    stored = tuple(entry for shard in shards for entry in stored_in(shard) if entry.name != IGNORED)
    read_object(path / "params.json", "params.json of the checkpoint")
    return Survey(f"{KIND}, {_shards(len(files))}", stored, lambda: _complete(path, shards, stored), _remarks(stored))


def split_axis(name: str) -> int | None:
    """The axis along which shards hold a weight; None where each has the whole.

    >>> split_axis("layers.0.attention.wo.weight"), split_axis("output.weight"), split_axis("norm.weight")
    (1, 0, None)
    """
    if "norm" in name:
        return None
    return 1 if name.endswith(_SPLIT_INPUTS) else 0


def write_meta(folder: Path, weights: Weights, *, dtype: torch.dtype | None, shards: int) -> None:
    """Write params.json and shards into an existing folder; a tied model gets its head written out.

    Raises InputError where the shards do not divide the heads and widths.
    """
    arch = weights.arch
    check_shards(arch, shards)
    (folder / "params.json").write_text(json.dumps(params_json(arch)) + "\n", encoding="utf-8")
    names = model_shapes(arch.replace(tied_embeddings=False))
    for rank in range(shards):
        state = {}
        for name in names:
            source = "tok_embeddings.weight" if name == "output.weight" and arch.tied_embeddings else name
            state[name] = _part(weights.fetch(source, dtype=dtype), name, rank, shards)
        torch.save(state, folder / f"consolidated.{rank:02d}.pth")


def check_shards(arch: LlamaArch, shards: int) -> None:
    """Raise InputError for a number of shards that does not divide what is split."""
    if shards < 1 or shards > MAX_SHARDS:
        raise InputError(f"shards must be 1 to {MAX_SHARDS}; got {shards}")
    for field in ("n_heads", "n_kv_heads", "dim", "ffn_dim", "vocab_size"):
        if getattr(arch, field) % shards:
            raise InputError(f"shards must divide {field}={getattr(arch, field):,}; got {shards}")


def params_json(arch: LlamaArch) -> dict[str, Any]:
    """Meta's params.json of an architecture.

    Maximum positions, which Meta sets at run time, and tied embeddings have no key; fused tensors are written apart.
    Raises InputError for other properties that it cannot express.

    >>> from llamalab.presets import PRESETS
    >>> params_json(PRESETS["70b"].arch)["multiple_of"], params_json(PRESETS["70b"].arch)["ffn_dim_multiplier"]
    (4096, 1.3)
    """
    data: dict[str, Any] = {"dim": arch.dim, "n_layers": arch.n_layers, "n_heads": arch.n_heads}
    if arch.n_kv_heads != arch.n_heads:
        data["n_kv_heads"] = arch.n_kv_heads
    multiple_of, multiplier = _ffn_rule(arch.dim, arch.ffn_dim)
    data["multiple_of"] = multiple_of
    if multiplier is not None:
        data["ffn_dim_multiplier"] = multiplier
    data |= {"norm_eps": arch.norm_eps, "vocab_size": arch.vocab_size}
    if arch.rope_theta != 10_000.0:
        data["rope_theta"] = arch.rope_theta
    scaling = arch.rope_scaling
    if scaling is not None and scaling.kind == "llama3":
        # The original context of 8,192 and the low factor of 1 are fixed in Meta's code.
        data |= {"use_scaled_rope": True, "rope_scaling_factor": scaling.factor}
        data["rope_high_freq_factor"] = scaling.high_freq_factor
    unsaid = {name: getattr(arch, name) for name in ("max_positions", "tied_embeddings", *ON_DISK)}
    try:
        said = from_meta_params(data).replace(**unsaid)
    except InputError:  # this combination is no model: a custom head size has no key
        said = None
    if said != arch:
        what = ", ".join(arch.beyond_llama_2)
        raise InputError(f"a checkpoint as Meta's must be of a Llama 1 to 3 to be written; it has no word for {what}")
    return data


def _ffn_rule(dim: int, ffn_dim: int) -> tuple[int, float | None]:
    """A multiple_of and ffn_dim_multiplier that give this width: Meta's own, else the width as multiple_of."""
    narrow = min(1.0, ffn_dim / max(1, int(8 * dim / 3)))
    candidates: tuple[tuple[int, float | None], ...] = (
        (256, None),
        (256, 1.0),
        (4096, 1.3),
        (1024, 1.3),
        (ffn_dim, None),
        (ffn_dim, narrow),
    )
    return next(rule for rule in candidates if meta_ffn_dim(dim, *rule) == ffn_dim)


def _part(weight: Tensor, name: str, rank: int, shards: int) -> Tensor:
    axis = split_axis(name)
    part = weight if axis is None else weight.chunk(shards, axis)[rank]
    # torch.save writes the whole storage of a view.
    return part.detach().cpu().clone(memory_format=torch.contiguous_format)


def _shard_files(path: Path) -> list[Path]:
    numbered = sorted(file for file in path.iterdir() if _SHARD.fullmatch(file.name) and file.is_file())
    return numbered or [file for file in [path / _ONLY] if file.is_file()]


def _unwrapped(shard: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = {without_wrappers(name): tensor for name, tensor in shard.items()}
    if len(plain) < len(shard):
        raise FormatError("a tensor must be stored under one name; a shard has one with wrappers and without")
    return plain


def _shards(count: int) -> str:
    return "1 shard" if count == 1 else f"{count} shards"


def _remarks(stored: tuple[StoredTensor, ...]) -> tuple[str, ...]:
    kinds = sorted({entry.dtype for entry in stored})
    return (f"weights are of {len(kinds)} kinds: {', '.join(kinds)}",) if len(kinds) > 1 else ()


def _complete(path: Path, shards: list[dict[str, Tensor]], stored: tuple[StoredTensor, ...]) -> Weights:
    check_floats(stored)
    merged = _merged_shapes(shards)
    arch = read_arch(str(path / "params.json"))
    params = read_object(path / "params.json", "params.json of the checkpoint")
    if params.get("vocab_size", -1) == -1 and "tok_embeddings.weight" in merged:
        # Meta's code requires a tokenizer with as many pieces as the embedding has rows.
        arch = arch.replace(vocab_size=merged["tok_embeddings.weight"][0])
    check_no_others(merged, {*model_shapes(arch), IGNORED})
    _check_count(merged, arch, len(shards))
    check_tensors(model_shapes(arch), merged)

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        parts, axis = [shard[name] for shard in shards], split_axis(name)
        if axis is None or len(parts) == 1:
            return settled(parts[0], dtype=dtype, device=device)
        return _joined(parts, axis, dtype or parts[0].dtype, device)

    def fetch_part(name: str, rank: int, ranks: int) -> Tensor | None:
        return _part_of_shards([shard[name] for shard in shards], split_axis(name), rank, ranks)

    return Weights(arch, fetch, lambda name: shards[0][name].dtype, common_dtype(stored), fetch_part=fetch_part)


def _check_count(merged: dict[str, tuple[int, ...]], arch: LlamaArch, count: int) -> None:
    """Check the columns of the embedding: too few in all mean that shards are missing."""
    columns = merged.get("tok_embeddings.weight", (0, 0))[-1]
    if merged.get("norm.weight") == (arch.dim,) and 0 < columns < arch.dim and arch.dim * count % columns == 0:
        raise FormatError(f"a checkpoint must have all its {arch.dim * count // columns} shards; it has {count}")


def _part_of_shards(parts: list[Tensor], axis: int | None, rank: int, ranks: int) -> Tensor | None:
    """The weights of one of `ranks` ranks: whole shards, or a part of one; None where neither count divides the other.

    Parts of one shard are views of it: nothing else of the file is read.
    """
    if axis is None:
        return readable(parts[rank * len(parts) // ranks])
    if len(parts) % ranks == 0:
        own = parts[rank * len(parts) // ranks : (rank + 1) * len(parts) // ranks]
        return readable(own[0]) if len(own) == 1 else _joined(own, axis, own[0].dtype, None)
    if ranks % len(parts) == 0 and parts[0].shape[axis] % (each := ranks // len(parts)) == 0:
        return readable(parts[rank // each].chunk(each, axis)[rank % each])
    return None


def _joined(parts: list[Tensor], axis: int, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    """The parts concatenated, each copied to its place and its file pages then dropped."""
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    whole = torch.empty(shape, dtype=dtype, device=device)
    for target, part in zip(whole.chunk(len(parts), axis), parts, strict=True):
        target.copy_(readable(part))
        drop_pages(part)
    return whole


def _merged_shapes(shards: list[dict[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    """Shape of each weight when its parts are put together. Raises FormatError where shards differ."""
    merged = {}
    for name, first in shards[0].items():
        axis = split_axis(name)
        for shard in shards:
            if shard.keys() != shards[0].keys() or shard[name].shape != first.shape or shard[name].dtype != first.dtype:
                raise FormatError(f"the shards must hold parts of the same tensors in one shape; they differ at {name}")
        shape = list(first.shape)
        if axis is not None and len(shape) > axis:
            shape[axis] *= len(shards)
        merged[name] = tuple(shape)
    return merged
