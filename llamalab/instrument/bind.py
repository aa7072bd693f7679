"""Attaching a tap to the forward passes of a model: it is pushed on the model's stack of taps for a block of code.

A Transformer has a stack that its `forward` reads; nothing else of it changes, and torch.compile guards on the stack,
so that a compiled model is traced anew with the tap in the graph. A Hugging Face model has none; it gets a stack and
ordinary hooks that read it, which are removed with the last tap.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llamalab.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from llamalab.model.tap import Tap

HOOKED_TYPES = (
    "llama",
    "mistral",
    "ministral",
    "qwen2",
    "qwen3",
    "phi3",
    "seed_oss",
    "internlm3",
    "iquestcoder",
    "cwm",
)  # model_type of the Hugging Face models with a known layout
# Attributes under which torch.compile, DDP, FSDP and activation checkpointing keep the wrapped module.
_WRAPPED = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@contextmanager
def tapped(model: "nn.Module", tap: "Tap") -> Iterator[None]:
    """Apply `tap` to every forward pass of the model inside the block.

    The model may be wrapped by PEFT, DDP, FSDP or torch.compile. Blocks may be nested: the tap of the outer one is
    called first, one passed to the call itself last. Raises InputError for a model of another kind, and where another
    thread has taps on it.
    """
    depth_of(model)
    real: Any = unwrapped(model)
    if is_hugging_face(real):
        from llamalab.instrument.hugging_face import hooked

        with hooked(real, tap):
            yield
        return
    with real.taps.holding(tap):
        yield


def unwrapped(model: "nn.Module") -> "nn.Module":
    """The model inside PEFT, DDP, FSDP and torch.compile wrappers, in any order."""
    while True:
        inner = next((model._modules[name] for name in _WRAPPED if name in model._modules), None)
        if inner is None and hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            inner = model.get_base_model()  # type: ignore[operator]
        if inner is None:
            return model
        model = inner


def depth_of(model: "nn.Module") -> int:
    """Number of layers. Raises InputError for a model that is neither built in nor a known one of transformers."""
    real: Any = unwrapped(model)
    if getattr(real, "arch", None) is not None:
        return int(real.arch.n_layers)
    if is_hugging_face(real):
        return int(real.config.num_hidden_layers)
    raise InputError(f"{_NEEDED}; got {_described(real)}")


def names_in(model: "nn.Module") -> tuple[str, ...] | None:
    """The points of a model with other points than a Llama, such as llamalab.classic's; None for a Llama."""
    return getattr(unwrapped(model), "point_names", None)


def is_hugging_face(model: "nn.Module") -> bool:
    """Whether it is a transformers model of FAMILIES with a head, wrapped or not; transformers is not imported."""
    real = unwrapped(model)
    return getattr(getattr(real, "config", None), "model_type", None) in HOOKED_TYPES and hasattr(real, "lm_head")


_NEEDED = (
    "a tapped model must be a llamalab.Transformer or a LlamaForCausalLM, or of Hugging Face's "
    f"{', '.join(HOOKED_TYPES[1:])}"
)


def _described(model: "nn.Module") -> str:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return type(model).__name__ + (f" of model_type {kind!r}" if kind else "")
