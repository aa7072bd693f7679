"""Hugging Face folders: `config.json` and weights in safetensors or `.bin`, whole or in indexed shards.

Rows of q_proj and k_proj lie in halves (see layout); the settings of RoPE are spelled as transformers 4
or 5 spell them (see hf_config.from_hf_config). `rotary_emb.inv_freq` of old files is ignored.
Source: transformers 5.23, models/llama.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.arch_files import read_arch
from llamalab.checkpoints.checkpoint import (
    FLOATS,
    Stored,
    Survey,
    Weights,
    check_floats,
    check_shapes,
    common_dtype,
    leftover_remarks,
    model_shapes,
)
from llamalab.checkpoints.layout import halves_to_pairs, hf_name, is_rotated, pairs_to_halves, rotated_heads
from llamalab.checkpoints.nature import nature
from llamalab.checkpoints.pages import settled
from llamalab.checkpoints.safetensors_file import is_safetensors, open_safetensors, stored_as, write_safetensors
from llamalab.checkpoints.torch_file import is_torch_file, read_torch_file, stored_in
from llamalab.errors import FormatError
from llamalab.input_files import MOST_BYTES, read_object

KIND = "Hugging Face"
SHARD_BYTES = 5 * 10**9  # as save_pretrained's
_TORCH_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


class _File(NamedTuple):
    stored: dict[str, Stored]
    tensor: Callable[[str], Tensor]


def recognises(path: Path) -> bool:
    """Whether a folder has config.json and files of weights."""
    return path.is_dir() and (path / "config.json").is_file() and bool(_weight_files(path))


def survey(path: Path) -> Survey:
    """What the headers hold. Raises FormatError where an index and its files do not agree."""
    files = [_open(file) for file in _weight_files(path)]
    where: dict[str, _File] = {}
    for file in files:
        for name in file.stored:
            if name in where:
                raise FormatError(f"a tensor must be in one file of a checkpoint; {name} is in two")
            where[name] = file
    config = read_object(path / "config.json", "config.json of the checkpoint")
    tensors = {name: file.stored[name] for name, file in where.items() if not name.endswith("rotary_emb.inv_freq")}
    kind = f"{KIND}, {len(files)} file{'s' if len(files) > 1 else ''} of weights"
    return Survey(kind, tuple(tensors.values()), lambda: _complete(path, config, where, tensors), _remarks(config))


def write_huggingface(
    folder: Path,
    weights: Weights,
    *,
    dtype: torch.dtype | None,
    ids: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write config.json and safetensors, indexed where they are more than one, into an existing folder.

    `ids` are the special ids of config.json, by default Llama 2's.
    """
    arch, fetch = weights.arch, partial(_in_halves, weights, dtype=dtype)
    config = hf_config(arch, dtype or weights.dtype) | dict(ids or {})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    by_name = {hf_name(name): name for name in model_shapes(arch)}
    shapes = model_shapes(arch)
    entries = [stored_as(theirs, shapes[ours], dtype or weights.dtype_of(ours)) for theirs, ours in by_name.items()]
    groups = _in_shards(entries, shard_bytes)
    index: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        last = len(groups)
        name = "model.safetensors" if last == 1 else f"model-{number:05d}-of-{last:05d}.safetensors"
        with (folder / name).open("wb") as file:
            write_safetensors(file, group, lambda theirs: fetch(by_name[theirs]))
        index |= {entry.name: name for entry in group}
    if len(groups) > 1:
        total = sum(entry.nbytes for entry in entries)
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
        (folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")


def hf_config(arch: LlamaArch, dtype: torch.dtype) -> dict[str, Any]:
    """The config.json of an architecture, spelled so that transformers 4 and 5 both read it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": arch.dim,
        "initializer_range": 0.02,
        "intermediate_size": arch.ffn_dim,
        "max_position_embeddings": arch.max_positions,
        "num_attention_heads": arch.n_heads,
        "num_hidden_layers": arch.n_layers,
        "num_key_value_heads": arch.n_kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": arch.norm_eps,
        "rope_scaling": None,
        "rope_theta": arch.rope_theta,
        "tie_word_embeddings": arch.tied_embeddings,
        "torch_dtype": _TORCH_NAMES[dtype],
        "use_cache": True,
        "vocab_size": arch.vocab_size,
    }


def _weight_files(path: Path) -> list[Path]:
    """The files that the index names, or without one every file of the one kind."""
    for pattern, is_kind in (("*.safetensors", is_safetensors), ("*.bin", is_torch_file)):
        indexes = sorted(path.glob(f"{pattern}.index.json"))
        if indexes:
            return _indexed(path, indexes[0])
        files = sorted(file for file in path.glob(pattern) if file.is_file() and not file.name.startswith("adapter_"))
        files = [file for file in files if is_kind(file)]
        if files:
            return files
    return []


def _indexed(path: Path, index: Path) -> list[Path]:
    weight_map = read_object(index, "index of the checkpoint", most=MOST_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{index.name} must have a weight_map from tensors to files; it has none")
    names = set(map(str, weight_map.values()))
    # A name with a folder in it could lead anywhere on this machine.
    foreign = sorted(name for name in names if Path(name).name != name or not (path / name).is_file())
    if foreign:
        raise FormatError(f"{index.name} must name files of its own folder; {foreign[0]!r} is none")
    return [path / name for name in sorted(names)]


def _open(path: Path) -> _File:
    if is_safetensors(path):
        return _File(*open_safetensors(path))
    if is_torch_file(path):
        tensors = read_torch_file(path)
        return _File({entry.name: entry for entry in stored_in(tensors)}, tensors.__getitem__)
    raise FormatError(f"{path.name} must be safetensors or a zip archive of torch.save; it is {nature(path)}")


def _remarks(config: dict[str, Any]) -> tuple[str, ...]:
    if config.get("architectures") in (None, ["LlamaForCausalLM"]):
        return ()
    return (f"architectures is {config['architectures']!r}, not LlamaForCausalLM",)


def _complete(path: Path, config: dict[str, Any], where: dict[str, _File], tensors: dict[str, Stored]) -> Weights:
    if config.get("quantization_config"):
        raise FormatError(
            "a checkpoint must not be quantised by its config.json; use one in safetensors of bf16 or fp16"
        )
    arch = read_arch(str(path / "config.json"))
    extra = set(tensors) - {hf_name(name) for name in model_shapes(arch.replace(tied_embeddings=False))}
    if extra:
        raise FormatError(f"the files must hold a Llama 2 and nothing else; {leftover_remarks(extra)[0]}")
    check_floats(tensors.values())
    check_shapes(arch, {name: entry.shape for name, entry in tensors.items()}, hf_name)

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        theirs = hf_name(name)
        if arch.tied_embeddings and name == "tok_embeddings.weight":
            _check_head(where)
        arrange = partial(halves_to_pairs, heads=rotated_heads(name, arch)) if is_rotated(name) else None
        return settled(where[theirs].tensor(theirs), dtype=dtype, device=device, arrange=arrange)

    kinds = {name: FLOATS[entry.dtype] for name, entry in tensors.items()}
    return Weights(arch, fetch, lambda name: kinds[hf_name(name)], common_dtype(tensors.values()))


def _check_head(where: dict[str, _File]) -> None:
    """A head that is stored though the embedding is used in its place must say the same."""
    head, embedding = hf_name("output.weight"), hf_name("tok_embeddings.weight")
    if head in where and not torch.equal(where[head].tensor(head), where[embedding].tensor(embedding)):
        raise FormatError("lm_head of a model with tie_word_embeddings must equal its embedding; they differ")


def _in_halves(weights: Weights, name: str, *, dtype: torch.dtype | None) -> Tensor:
    weight = weights.fetch(name, dtype=dtype)
    return pairs_to_halves(weight, rotated_heads(name, weights.arch)) if is_rotated(name) else weight


def _in_shards(entries: list[Stored], most: int) -> list[list[Stored]]:
    """Tensors in order, as many in a file as fit into `most` bytes, at least one."""
    groups: list[list[Stored]] = [[]]
    room = most
    for entry in entries:
        if groups[-1] and entry.nbytes > room:
            groups.append([])
            room = most
        groups[-1].append(entry)
        room -= entry.nbytes
    return groups
