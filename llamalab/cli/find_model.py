"""The model of `--model`: a preset, a JSON file, a folder or a checkpoint, of which only headers are read."""

import argparse
import os

from llamalab.arch import LlamaArch
from llamalab.arch.files import read_arch
from llamalab.cli.output import note
from llamalab.errors import InputError, LlamaLabError, UnavailableError, UnknownNameError
from llamalab.presets import PRESETS, resolve_model
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from llamalab.checkpoints.checkpoint import Weights
    from llamalab.cli.stored_models import StoredWeights

_CONFIGS = ("config.json", "params.json")  # of Hugging Face's folders and of Meta's


def find_model(name: str | LlamaArch) -> tuple[str, LlamaArch]:
    """The name and architecture of a model; an architecture is returned unchanged.

    Of a folder its `config.json` or `params.json` is read, of any other checkpoint the header, which needs PyTorch.
    Raises UnknownNameError for a name that is neither known nor a path, FormatError for a file that is no Llama.

    >>> find_model("70b")[1].n_kv_heads, find_model(LlamaArch(64, 2, 4, 4, 128, 100))[0]
    (8, '2 layers of 64')
    """
    if isinstance(name, LlamaArch):
        return f"{name.n_layers} layers of {name.dim}", name
    if name in PRESETS or name.lower().endswith(".json") or "\0" in name or not os.path.exists(name):
        return _known(name)
    for config in _CONFIGS:
        path = os.path.join(name, config)
        if os.path.isfile(path):
            return name, read_arch(path)
    from llamalab.checkpoints import open_weights  # imported here: it imports torch

    return name, open_weights(name).arch


def model_to_measure(name: str | LlamaArch) -> "tuple[str, LlamaArch, Weights | None]":
    """The short name of a model, its architecture, and the weights of a checkpoint; a note names the weights that run.

    Raises UnavailableError, before torch is imported, for a model that the built-in one does not run.

    A preset and a config have none: random ones of the same sizes are measured in their place.
    """
    from llamalab.arch.runnable import model_refusal  # imported here: only what runs a model asks it

    arch = find_model(name)[1]
    if refusal := model_refusal(arch):
        raise UnavailableError(refusal)
    weights = None if isinstance(name, LlamaArch) else _own_weights(name)
    return short_name(name), arch if weights is None else weights.arch, weights


def note_beyond(arch: LlamaArch, tokens: int) -> None:
    """Note, before it is measured, that a run is longer than the model was trained for."""
    from llamalab.arch.positions import beyond_positions  # imported here: only measurements ask for it

    if beyond := beyond_positions(arch, tokens):
        note(beyond, once=True)


def is_checkpoint(name: str | LlamaArch) -> bool:
    """Whether a model is given as a path that can hold weights: no preset, config or architecture."""
    named = isinstance(name, LlamaArch) or name in PRESETS or name.lower().endswith(".json")
    return not named and os.path.exists(str(name))


def _own_weights(name: str) -> "Weights | None":
    if not is_checkpoint(name):
        return None
    from llamalab.checkpoints import open_weights  # imported here: it imports torch
    from llamalab.checkpoints.checkpoint import model_shapes

    try:
        weights = open_weights(name)
        model_shapes(weights.arch)
    except LlamaLabError as error:
        note(f"the weights are random, of the sizes of {name}; its own cannot be loaded: {error}")
        return None
    note(f"the weights are those of {name}")
    return weights


def _known(name: str) -> tuple[str, LlamaArch]:
    try:
        return resolve_model(name)
    except UnknownNameError as error:
        if os.sep in name and not name.lower().endswith(".json"):
            raise InputError(f"{error}; nor is there a file or folder of that name") from None
        raise


def short_name(model: str | LlamaArch) -> str:
    """A model's name for a record, which holds no path: a preset's, or that of the folder or file.

    >>> short_name("7b"), short_name("/home/me/Llama-2-7b/config.json")
    ('7b', 'Llama-2-7b')
    """
    if isinstance(model, LlamaArch):
        return find_model(model)[0]
    if model in PRESETS or not (os.path.exists(model) or model.lower().endswith(".json")):
        return resolve_model(model)[0]
    path = os.path.abspath(model)
    stem, extension = os.path.splitext(os.path.basename(path))
    if extension.lower() == ".json" and stem.lower() in ("config", "params"):
        return os.path.basename(os.path.dirname(os.path.realpath(model)))
    return os.path.basename(path) if os.path.isdir(path) else stem


def take_storage(args: "argparse.Namespace") -> "StoredWeights | None":
    """The storage in the file of --model, as default of --weight-dtype; None where neither is known."""
    if args.weight_dtype is not None or not isinstance(args.model, str) or args.model in PRESETS:
        return None
    if not os.path.exists(args.model):
        return None
    from llamalab.cli.stored_models import noted_storage  # imported here: a preset needs no reader of files

    return noted_storage(args)


def own_storage(
    args: argparse.Namespace, model: str | LlamaArch, formats: dict[str, str | None]
) -> "tuple[argparse.Namespace, StoredWeights | None]":
    """The options for one model and one set of formats, with the storage of the model's file as default."""
    asked = argparse.Namespace()
    vars(asked).update(vars(args) | formats, model=model)
    return asked, take_storage(asked)


def split_paths(text: str) -> list[str]:
    """Names with commas between them, where a path that exists may have commas itself.

    >>> split_paths("7b, 13b,config.json")
    ['7b', '13b', 'config.json']
    """
    parts, names = text.split(","), []
    while parts:
        ends = [end for end in range(len(parts), 1, -1) if _is_there(",".join(parts[:end]))]
        end = ends[0] if ends else 1
        names.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return [name for name in names if name]


def _is_there(path: str) -> bool:
    return "\0" not in path and os.path.lexists(path.strip())
