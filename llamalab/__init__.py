"""llamalab: what a Llama should cost on a machine, what it did cost, and why the two differ.

Public names are resolved when they are first used, so that `import llamalab`, and every part that
only calculates, starts without torch.

>>> import llamalab
>>> llamalab.build("7b", device="meta").arch.n_layers
32
"""

TYPE_CHECKING = False  # as typing's, without importing typing
if TYPE_CHECKING:
    from llamalab.arch import LlamaArch
    from llamalab.checkpoints import load
    from llamalab.instrument.taps import capture, edit
    from llamalab.measure.profile.run import profile
    from llamalab.model import StaticKVCache, Transformer, build
    from llamalab.model.compiled import compile

__version__ = "0.1.0"
__all__ = ["LlamaArch", "StaticKVCache", "Transformer", "build", "capture", "compile", "edit", "load", "profile"]

_HOMES = {
    "LlamaArch": "llamalab.arch",
    "StaticKVCache": "llamalab.model",
    "Transformer": "llamalab.model",
    "build": "llamalab.model",
    "capture": "llamalab.instrument.taps",
    "compile": "llamalab.model.compiled",
    "edit": "llamalab.instrument.taps",
    "load": "llamalab.checkpoints",
    "profile": "llamalab.measure.profile.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'llamalab' has no attribute {name!r}")
    from importlib import import_module  # here: it costs a millisecond that a calculation need not pay

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
