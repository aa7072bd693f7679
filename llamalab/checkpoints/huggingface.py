"""Hugging Face folders: `config.json` and weights in safetensors or `.bin`, whole or in indexed shards.

weight_files finds the files, tensor_names the names in them, config_json writes config.json. Rows of q_proj and
k_proj are stored as halves, and fused into one tensor in some families (see layout). Matrices of GPTQ and AWQ are
read from their codes (see word_codes). `rotary_emb.inv_freq` of old files is ignored, as are tensors outside the
language model, such as heads of other tasks.
Source: transformers 5.23, models/<model_type>/modeling_*.py.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.arch.files import read_arch
from llamalab.checkpoints.arrangement import arranged
from llamalab.checkpoints.checkpoint import (
    FLOATS,
    StoredTensor,
    Survey,
    Weights,
    check_floats,
    check_no_others,
    check_tensors,
    common_dtype,
    leftover_remarks,
)
from llamalab.checkpoints.config_json import config_json
from llamalab.checkpoints.layout import HUGGING_FACE, hf_name
from llamalab.checkpoints.nature import nature
from llamalab.checkpoints.pages import settled
from llamalab.checkpoints.safetensors_file import is_safetensors, open_safetensors, stored_tensor, write_safetensors
from llamalab.checkpoints.tensor_names import plain_names
from llamalab.checkpoints.torch_file import is_torch_file, read_torch_file, stored_in
from llamalab.checkpoints.weight_files import WeightFiles, find_weights, has_weights
from llamalab.checkpoints.word_codes import WORD_PARTS, WordMatrices, word_format
from llamalab.errors import FormatError
from llamalab.files.inputs import read_object
from llamalab.model.quantised.codes import Codes

KIND = "Hugging Face"
SHARD_BYTES = 5 * 10**9  # the maximum size of a shard in save_pretrained
_ROWS = 1024  # compared at a time
_TASK = "ForCausalLM"


_IGNORED = ("rotary_emb.inv_freq",)
_OURS = ("model.", "lm_head.")  # prefixes of a language model's tensors; those of heads of other tasks differ
_DOUBLE = ("F64", "float64")  # read as fp32
_HEAD, _EMBEDDING = hf_name("output.weight"), hf_name("tok_embeddings.weight")


class _Tensors(NamedTuple):
    """Stored tensors by name, and a function that reads each: by file names, or in a folder without wrappers."""

    stored: dict[str, StoredTensor]
    tensor: Callable[[str], Tensor]


def recognises(path: Path) -> bool:
    """Whether a folder has config.json and weight files."""
    return path.is_dir() and (path / "config.json").is_file() and has_weights(path)


def survey(path: Path) -> Survey:
    """Architecture and tensors from the headers. Raises FormatError where an index and its files do not agree."""
    config = read_object(path / "config.json", "config.json of the checkpoint")
    files = find_weights(path, config)
    if files is None:
        raise FormatError(f"a Hugging Face folder must hold weights in safetensors or .bin; {path} is {nature(path)}")
    found, remarks = _all_tensors(files), [*_remarks(config), *files.remarks]
    if _has_own_head(config, found):
        remarks.append("lm_head differs from the embedding and is used, though tie_word_embeddings is true")
    others = sorted(name for name in found.stored if not name.startswith(_OURS))
    kind = f"{KIND}, {len(files.files)} file{'s' if len(files.files) > 1 else ''} of weights"
    return Survey(
        kind,
        tuple(found.stored.values()),
        lambda: _complete(path, config, found),
        (*remarks, *leftover_remarks(others)),
    )


def write_huggingface(
    folder: Path,
    weights: Weights,
    *,
    dtype: torch.dtype | None,
    ids: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write config.json and safetensors, indexed where they are more than one, into an existing folder.

    `ids` are the special ids of config.json, by default Llama 2's. Raises InputError as config_json.
    """
    config = config_json(weights.arch, dtype or weights.dtype) | dict(ids or {})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    layout = arranged(weights.arch, HUGGING_FACE)
    entries = [
        stored_tensor(name, shape, dtype or layout.dtype_of(name, weights)) for name, shape in layout.shapes.items()
    ]
    groups = _in_shards(entries, shard_bytes)
    index: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        last = len(groups)
        name = "model.safetensors" if last == 1 else f"model-{number:05d}-of-{last:05d}.safetensors"
        with (folder / name).open("wb") as file:
            write_safetensors(file, group, lambda tensor: layout.as_theirs(tensor, weights, dtype=dtype))
        index |= {entry.name: name for entry in group}
    if len(groups) > 1:
        total = sum(entry.nbytes for entry in entries)
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
        (folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")


def _all_tensors(files: WeightFiles) -> _Tensors:
    where: dict[str, _Tensors] = {}
    for path in files.files:
        file = _open(path)
        for name in file.stored:
            # The index decides between files that repeat a tensor.
            if files.places.get(name, path.name) != path.name and name in file.stored:
                continue
            if name in where:
                raise FormatError(f"a tensor must be in one file of a checkpoint; {name} is in two")
            where[name] = file
    names = plain_names(name for name in where if not name.endswith(_IGNORED))
    stored = {plain: where[name].stored[name] for plain, name in names.items()}
    return _Tensors(stored, lambda plain: where[names[plain]].tensor(names[plain]))


def _open(path: Path) -> _Tensors:
    if is_safetensors(path):
        return _Tensors(*open_safetensors(path))
    if is_torch_file(path):
        tensors = read_torch_file(path)
        return _Tensors({entry.name: entry for entry in stored_in(tensors)}, tensors.__getitem__)
    raise FormatError(f"{path.name} must be safetensors or a file of torch.save; it is {nature(path)}")


def _has_own_head(config: dict[str, Any], found: _Tensors) -> bool:
    """Whether a model with tied embeddings in its config has a head of other values; an equal copy does not count."""
    if config.get("tie_word_embeddings") is not True or not {_HEAD, _EMBEDDING} <= found.stored.keys():
        return False
    if found.stored[_HEAD].shape != found.stored[_EMBEDDING].shape:
        return True
    head, embedding = found.tensor(_HEAD), found.tensor(_EMBEDDING)
    if head.data_ptr() == embedding.data_ptr():
        return False
    # A few rows at a time: a difference is usually in the first ones.
    starts = range(0, len(head), _ROWS)
    return not all(torch.equal(head[at : at + _ROWS], embedding[at : at + _ROWS]) for at in starts)


def _remarks(config: dict[str, Any]) -> tuple[str, ...]:
    found = config.get("architectures")
    if found is None or (isinstance(found, list) and all(str(name).endswith(_TASK) for name in found)):
        return ()
    return (f"architectures is {found!r}, not a class for continuing text, …{_TASK}",)


def _complete(path: Path, config: dict[str, Any], found: _Tensors) -> Weights:
    packed: WordMatrices | None = None
    if config.get("quantization_config"):
        form = word_format(config["quantization_config"])
        packed = WordMatrices(form, found.stored, found.tensor)
        found = _with_packed(found, packed)
    arch = read_arch(str(path / "config.json"))
    if arch.tied_embeddings and _has_own_head(config, found):
        arch = arch.replace(tied_embeddings=False)
    stored = {name: entry for name, entry in found.stored.items() if name.startswith(_OURS)}
    layout = arranged(arch, HUGGING_FACE)
    known = packed.stored if packed else {}
    for name in [name for name in stored if packed and packed.is_empty_bias(name) and name not in layout.shapes]:
        del stored[name]
    check_no_others(stored, {*layout.shapes, _HEAD})
    check_floats(entry for name, entry in stored.items() if entry.dtype not in _DOUBLE and name not in known)
    if arch.tied_embeddings and _EMBEDDING not in stored and _HEAD in stored:
        # A tied model may have been saved with its head but without its embedding.
        found, stored[_EMBEDDING] = _with_embedding(found), stored[_HEAD]
    check_tensors(layout.shapes, {name: entry.shape for name, entry in stored.items()})

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        tensor, rows = layout.places[name]
        kind = torch.float32 if dtype is None and stored[tensor].dtype in _DOUBLE else dtype
        arrange = partial(layout.as_ours, name)
        return settled(found.tensor(tensor)[rows], dtype=kind, device=device, arrange=arrange)

    def codes(name: str) -> Codes | None:
        tensor, rows = layout.places[name]
        made = packed.codes(tensor) if packed and tensor in known else None
        if made is None or made.offsets is None:
            return None
        arranged_parts = (layout.as_ours(name, part[rows]) for part in (made.codes, made.scales, made.offsets))
        return Codes(made.bits, *arranged_parts)

    kinds = {name: FLOATS.get(entry.dtype, torch.float32) for name, entry in stored.items()}
    return Weights(arch, fetch, lambda name: kinds[layout.places[name].tensor], common_dtype(stored.values()), codes)


def _with_packed(found: _Tensors, packed: WordMatrices) -> _Tensors:
    """Stored tensors in which the parts of every packed matrix are replaced by one weight."""
    parts = {f"{home}.{part}" for home in packed.names.values() for part in WORD_PARTS}
    stored = {name: entry for name, entry in found.stored.items() if name not in parts} | packed.stored
    return _Tensors(stored, lambda name: packed.widened(name) if name in packed.stored else found.tensor(name))


def _with_embedding(found: _Tensors) -> _Tensors:
    return found._replace(tensor=lambda name: found.tensor(_HEAD if name == _EMBEDDING else name))


def _in_shards(entries: list[StoredTensor], most: int) -> list[list[StoredTensor]]:
    """Tensors in order, cut into shards of at most `most` bytes, each with one tensor at least."""
    groups: list[list[StoredTensor]] = [[]]
    room = most
    for entry in entries:
        if groups[-1] and entry.nbytes > room:
            groups.append([])
            room = most
        groups[-1].append(entry)
        room -= entry.nbytes
    return groups
