"""llamalab: what a Llama should cost on a machine, what it did cost, and why the two differ.

Public names are resolved when they are first used, so that `import llamalab`, and every part that
only calculates, starts without torch. `dir()` lists a call for each thing that most people want; models, taps and
types live in the rooms of their own, and can be had from here by name as well.

Belongs here: the names of the front door. Does not belong here: code of any of them (api, model, checkpoints).

>>> import llamalab
>>> llamalab.kv("7b", context=4096, batch=16).kv_bytes
34359738368
>>> llamalab.build("7b", device="meta").arch.n_layers
32
"""

import sys

from llamalab.version import __version__ as __version__

TYPE_CHECKING = False  # as typing's, without importing typing
if TYPE_CHECKING:
    from llamalab.api.calculate import fit, flops, kv, params, predict, roofline
    from llamalab.api.compare import compare
    from llamalab.api.run import bench, generate, measure, profile, report
    from llamalab.api.training import train_memory as train_memory
    from llamalab.api.training import tune as tune
    from llamalab.arch import LlamaArch as LlamaArch
    from llamalab.checkpoints import load
    from llamalab.hardware import HARDWARE
    from llamalab.instrument.taps import capture as capture
    from llamalab.instrument.taps import edit as edit
    from llamalab.model import StaticKVCache as StaticKVCache
    from llamalab.model import Transformer as Transformer
    from llamalab.model import build as build
    from llamalab.model.compiled import compile as compile
    from llamalab.parallel.plan import parallelize as parallelize
    from llamalab.presets import PRESETS
    from llamalab.records.frames import frames as frames
    from llamalab.text.load import load_tokenizer

__all__ = [
    "HARDWARE",
    "PRESETS",
    "bench",
    "compare",
    "fit",
    "flops",
    "generate",
    "kv",
    "load",
    "load_tokenizer",
    "measure",
    "params",
    "predict",
    "profile",
    "report",
    "roofline",
]

_HOMES = {
    "HARDWARE": "llamalab.hardware",
    "LlamaArch": "llamalab.arch",
    "PRESETS": "llamalab.presets",
    "StaticKVCache": "llamalab.model",
    "Transformer": "llamalab.model",
    "bench": "llamalab.api.run",
    "build": "llamalab.model",
    "capture": "llamalab.instrument.taps",
    "compare": "llamalab.api.compare",
    "compile": "llamalab.model.compiled",
    "edit": "llamalab.instrument.taps",
    "fit": "llamalab.api.calculate",
    "flops": "llamalab.api.calculate",
    "frames": "llamalab.records.frames",
    "generate": "llamalab.api.run",
    "kv": "llamalab.api.calculate",
    "load": "llamalab.checkpoints",
    "load_tokenizer": "llamalab.text.load",
    "measure": "llamalab.api.run",
    "parallelize": "llamalab.parallel.plan",
    "params": "llamalab.api.calculate",
    "predict": "llamalab.api.calculate",
    "profile": "llamalab.api.run",
    "report": "llamalab.api.run",
    "roofline": "llamalab.api.calculate",
    "train_memory": "llamalab.api.training",
    "tune": "llamalab.api.training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'llamalab' has no attribute {name!r}")
    found = _found(name)
    globals().setdefault(name, found)  # asked for once; a room of this name that came with it stays
    return found


def _found(name: str) -> object:
    """What a name stands for, from the module that has it."""
    from importlib import import_module  # imported here: it costs a millisecond that a calculation need not pay

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)


class _CallableRoom(type(sys)):  # type: ignore[misc]
    """A package that is also the call of its name: `llamalab.report` has modules inside and makes a report."""

    @property
    def __wrapped__(self) -> object:
        return _found(self.__name__.rpartition(".")[2])

    def __call__(self, *args: object, **options: object) -> object:
        return self.__wrapped__(*args, **options)  # type: ignore[operator]


class _FrontDoor(type(sys)):  # type: ignore[misc]
    """This module. Importing a room below it sets an attribute here, which must not take a call's place."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and type(value) is type(sys):
            value.__class__ = _CallableRoom
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
