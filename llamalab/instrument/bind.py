"""How a tap reaches the forward passes of a model: it goes on the model's stack for a while.

A Transformer has a stack that its `forward` reads; nothing else of it changes, and torch.compile guards on the
stack, so that a compiled model is traced anew with the tap in the graph. A Hugging Face model has none; there a
stack and ordinary hooks that read it are put on, and taken off with the last tap.
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
)  # model_type of the Hugging Face models whose layout is known
# What torch.compile, DDP, FSDP and activation checkpointing call the module that they wrap.
_WRAPPED = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@contextmanager
def tapped(model: "nn.Module", tap: "Tap") -> Iterator[None]:
    """Hand `tap` to every forward pass of the model inside the block.

    The model may be wrapped by PEFT, DDP, FSDP or torch.compile. Blocks may be nested: the tap of the outer one comes
    first, one given to the call itself last. Raises InputError for a model of another kind, and where another thread
    has taps on it.
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
    """The model inside of PEFT, DDP, FSDP and torch.compile, in whatever order they were put around it."""
    while True:
        inner = next((model._modules[name] for name in _WRAPPED if name in model._modules), None)
        if inner is None and hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            inner = model.get_base_model()  # type: ignore[operator]
        if inner is None:
            return model
        model = inner


def depth_of(model: "nn.Module") -> int:
    """How many layers the model has. Raises InputError for one that is no Llama of ours or Hugging Face's."""
    real: Any = unwrapped(model)
    if getattr(real, "arch", None) is not None:
        return int(real.arch.n_layers)
    if is_hugging_face(real):
        return int(real.config.num_hidden_layers)
    raise InputError(f"{_NEEDED}; got {_described(real)}")


def names_in(model: "nn.Module") -> tuple[str, ...] | None:
    """The points of a model that has others than a Llama, as llamalab.classic's; None for a Llama."""
    return getattr(unwrapped(model), "point_names", None)


def is_hugging_face(model: "nn.Module") -> bool:
    """Whether it is a model of FAMILIES in transformers with a head, wrapped or not, asked without importing that."""
    real = unwrapped(model)
    return getattr(getattr(real, "config", None), "model_type", None) in HOOKED_TYPES and hasattr(real, "lm_head")


_NEEDED = (
    "a tapped model must be a llamalab.Transformer or a LlamaForCausalLM, or of Hugging Face's "
    f"{', '.join(HOOKED_TYPES[1:])}"
)


def _described(model: "nn.Module") -> str:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return type(model).__name__ + (f" of model_type {kind!r}" if kind else "")
