"""A checkpoint of several files, named by one of them: by the index of its weights, or by a shard."""

import os
from argparse import Namespace

_CONFIG_BESIDE = {".index.json": "config.json", ".safetensors": "config.json", ".pth": "params.json"}
_NAMED = ("model", "path", "source", "file")  # the options that name a model


def whole_model(path: str) -> str:
    """The folder of a checkpoint where a path names a file of its weights; any other name as it is.

    >>> whole_model("7b"), whole_model("absent/model.safetensors.index.json")
    ('7b', 'absent/model.safetensors.index.json')
    """
    name = os.path.basename(path).lower()
    config = next((beside for end, beside in _CONFIG_BESIDE.items() if name.endswith(end)), None)
    if config is None or name.startswith("adapter_") or not os.path.isfile(path):
        return path
    folder = os.path.dirname(path) or "."
    return folder if os.path.isfile(os.path.join(folder, config)) else path


def with_whole_models(args: Namespace) -> Namespace:
    """The options of a verb, each model that they name as its folder."""
    for name in _NAMED:
        value = getattr(args, name, None)
        if isinstance(value, str) and "\0" not in value:
            setattr(args, name, whole_model(value))
    return args
