"""The files of a Hugging Face folder that hold its weights, by the exact names that transformers accepts.

In this order: model.safetensors, its index, pytorch_model.bin, its index. Other files, such as
consolidated.safetensors, training_args.bin or the state of an optimizer, are ignored. Without any of the four, one
variant is taken (model.fp16.safetensors), and last of all files of other names, with a remark.
Source: transformers 5.23, modeling_utils.py, `_get_resolved_checkpoint_files`.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from llamalab.checkpoints.safetensors_file import is_safetensors
from llamalab.checkpoints.torch_file import is_torch_file
from llamalab.errors import FormatError
from llamalab.files.inputs import MOST_BYTES, read_object

_NAMES = ("model.safetensors", "pytorch_model.bin")
_NAMED_BY_CONFIG = "transformers_weights"
_INDEX = ".index.json"
_VARIANT = re.compile(
    r"(model|pytorch_model)\.(?:(?P<whole>[\w-]+)\.(safetensors|bin)|(safetensors|bin)\.index\.(?P<parts>[\w-]+)\.json)"
)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")
# Files of trainers with the same endings as weights.
_OTHERS = re.compile(r"(adapter_|training_args|optimizer|scheduler|scaler|rng_state|random_states)")


class WeightFiles(NamedTuple):
    """The files, `places` of tensors where an index names them, and remarks on an unusual choice."""

    files: tuple[Path, ...]
    places: dict[str, str]
    remarks: tuple[str, ...]


def find_weights(folder: Path, config: dict[str, Any]) -> WeightFiles | None:
    """The files of a folder; None where it has none. Raises FormatError for an index that is not sound."""
    given = config.get(_NAMED_BY_CONFIG)
    if given is not None:
        if not isinstance(given, str) or not _is_inside(folder, given):
            raise FormatError(
                f"{_NAMED_BY_CONFIG} of config.json must name a file of its own folder; {given!r} is none"
            )
        return _opened(folder, given)
    for name in _NAMES:
        for whole in (name, name + _INDEX):
            if (folder / whole).is_file():
                return _opened(folder, whole)
    return _variant(folder) or _of_other_names(folder)


def has_weights(folder: Path) -> bool:
    """Whether a folder has weight files, judged by their names alone."""
    return any(file.is_file() and _may_hold_weights(file) for file in folder.iterdir())


def _may_hold_weights(file: Path) -> bool:
    name = file.name
    ending = name.endswith((".safetensors", ".bin", _INDEX)) or _VARIANT.fullmatch(name)
    return bool(ending) and not _OTHERS.match(name)


def _opened(folder: Path, name: str, remarks: tuple[str, ...] = ()) -> WeightFiles:
    if not name.endswith(".json"):
        return WeightFiles((folder / name,), {}, remarks)
    places = _weight_map(folder, name)
    return WeightFiles(tuple(folder / file for file in sorted(set(places.values()))), places, remarks)


def _weight_map(folder: Path, name: str) -> dict[str, str]:
    weight_map = read_object(folder / name, "index of the checkpoint", most=MOST_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{name} must have a weight_map from tensors to files; it has none")
    places = {tensor: str(file) for tensor, file in weight_map.items()}
    foreign = sorted(file for file in set(places.values()) if not _is_inside(folder, file))
    if foreign:
        what = "is none" if Path(foreign[0]).name != foreign[0] else "is not there"
        raise FormatError(f"{name} must name files of its own folder; {foreign[0]!r} {what}")
    return places


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a name is a file of this folder; a name with a folder in it could be any file of the machine."""
    return Path(name).name == name and (folder / name).is_file()


def _variant(folder: Path) -> WeightFiles | None:
    found = {}
    for file in sorted(folder.iterdir()):
        matched = _VARIANT.fullmatch(file.name)
        if matched and file.is_file() and not _SHARD.search(file.name):
            found[matched["whole"] or matched["parts"]] = file.name
    if len(found) > 1:
        raise FormatError(f"a folder must hold weights of one variant; it has {', '.join(found)}; keep one of them")
    for variant, name in found.items():
        return _opened(folder, name, (f"the weights are those of the variant {variant}, the only ones there",))
    return None


def _of_other_names(folder: Path) -> WeightFiles | None:
    for ending, is_kind in ((".safetensors", is_safetensors), (".bin", is_torch_file)):
        files = tuple(
            file
            for file in sorted(folder.glob(f"*{ending}"))
            if file.is_file() and not _OTHERS.match(file.name) and is_kind(file)
        )
        whole = tuple(file for file in files if not file.name.startswith("consolidated")) or files
        if whole:
            _check_shards(whole)
            names = ", ".join(file.name for file in whole[:3]) + (", …" if len(whole) > 3 else "")
            return WeightFiles(
                whole, {}, (f"the weights lie under names that transformers does not look for: {names}",)
            )
    return None


def _check_shards(files: tuple[Path, ...]) -> None:
    """Without an index, missing shards are found by the numbers in the names."""
    numbers = [(int(found[1]), int(found[2])) for file in files if (found := _SHARD.search(file.name))]
    if numbers and {number for number, _ in numbers} != set(range(1, numbers[0][1] + 1)):
        raise FormatError(f"a checkpoint must have all its shards; of {numbers[0][1]:,} it has {len(numbers)}")
