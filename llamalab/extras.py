"""Packages that are not always there: what each extra of this package would add, and the command that installs it."""

from llamalab.errors import MissingError
from llamalab.startup.hints import NamedTuple


class Extra(NamedTuple):
    """An extra: the modules that it brings, and what they are for."""

    name: str
    modules: tuple[str, ...]
    adds: str

    @property
    def command(self) -> str:
        """What installs it."""
        return f'python -m pip install "llamalab[{self.name}]"'


EXTRAS = (  # of several that bring a module, the one that brings the least stands first
    Extra("onnx", ("onnx", "onnxscript", "onnxruntime"), "llamalab convert --to onnx"),
    Extra("llama-cpp", ("xllamacpp",), "llamalab convert --dtype q6_k, q5_k and q4_k"),
    Extra("triton", ("triton",), "the triton attention backend on a GPU"),
    Extra("transformers", ("transformers",), "llamalab profile --beside transformers, and taps on its models"),
    Extra("tensorboard", ("tensorboard", "torch_tb_profiler"), "make tensorboard, for traces of llamalab profile"),
    Extra("llama-index", ("llama_index",), "the built-in model as the LLM of a llama_index query engine"),
    Extra("qlora", ("bitsandbytes", "peft"), "real steps of QLoRA beside the calculated ones (experiments)"),
    Extra("docs", ("mkdocs",), "make docs, the site of this documentation"),
)


def advice(module: str | None) -> str:
    """How to get a module that is missing.

    >>> advice("onnxscript")
    'python -m pip install "llamalab[onnx]" adds it'
    >>> advice("torch")
    'run llamalab doctor for the command that mends it'
    """
    wanted = (module or "").partition(".")[0]
    for extra in EXTRAS:
        if wanted in extra.modules:
            return f"{extra.command} adds it"
    return "run llamalab doctor for the command that mends it"


def check_extra(name: str, what: str) -> None:
    """Raise MissingError where a module that an extra brings is not installed; none is imported."""
    from importlib.util import find_spec

    for module in next(extra.modules for extra in EXTRAS if extra.name == name):
        if find_spec(module) is None:
            raise missing(module, what)


def missing(module: str | None, what: str) -> MissingError:
    """The error for what cannot be done without a module.

    >>> str(missing("xllamacpp", "q4_k"))
    'q4_k needs the Python package xllamacpp; it is not installed; python -m pip install "llamalab[llama-cpp]" adds it'
    """
    return MissingError(f"{what} needs the Python package {module}; it is not installed; {advice(module)}")
