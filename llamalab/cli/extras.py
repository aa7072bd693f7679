"""The extras of the package, and the command that installs each."""

from llamalab.startup.hints import NamedTuple


class Extra(NamedTuple):
    """An extra: its modules, and their purpose."""

    name: str
    modules: tuple[str, ...]
    adds: str

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f'python -m pip install "llamalab[{self.name}]"'


EXTRAS = (
    Extra("onnx", ("onnx", "onnxscript", "onnxruntime"), "llamalab convert --to onnx"),
    Extra("triton", ("triton",), "the triton attention backend on a GPU"),
    Extra("tensorboard", ("tensorboard", "torch_tb_profiler"), "make tensorboard, for traces of llamalab profile"),
    Extra("llama-index", ("llama_index",), "the built-in model as the LLM of a llama_index query engine"),
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
