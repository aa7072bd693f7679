"""How a tap reaches the forward passes of a model: it becomes an argument of each, for a while.

The model's `forward` is wrapped on the instance, and unwrapped when the block ends: a model without
a tap runs its own code and nothing else. torch.compile guards on that attribute and on the argument,
so that a compiled model is traced anew, with the tap in the graph, and never passes one by. A
Hugging Face model has no such argument; there the tap is called from ordinary hooks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llamalab.errors import InputError
from llamalab.instrument.combined import Combined

if TYPE_CHECKING:
    from torch import Tensor, nn

    from llamalab.model.tap import Tap


@contextmanager
def tapped(model: "nn.Module", tap: "Tap") -> Iterator[None]:
    """Hand `tap` to every forward pass of the model inside the block.

    Blocks may be nested: the tap of the outer one comes first, one given to the call itself last.
    Raises InputError for a model of another kind, and where blocks end in another order than they began.
    """
    depth_of(model)
    if is_hugging_face(model):
        from llamalab.instrument.hugging_face import hooked

        with hooked(model, tap):
            yield
        return
    forward, had_one = model.forward, "forward" in vars(model)
    own = tap

    def tapped_forward(*args: Any, tap: "Tap | None" = None, **options: Any) -> "Tensor":
        result: Tensor = forward(*args, tap=own if tap is None else Combined(own, tap), **options)
        return result

    model.forward = tapped_forward
    try:
        yield
    finally:
        if vars(model).get("forward") is not tapped_forward:
            raise InputError("taps must be taken off a model in the reverse order of putting them on; nest the blocks")
        if had_one:
            model.forward = forward
        else:
            del model.forward


def depth_of(model: "nn.Module") -> int:
    """How many layers the model has. Raises InputError for one that is no Llama of ours or Hugging Face's."""
    arch = getattr(model, "arch", None)
    if arch is not None:
        return int(arch.n_layers)
    if is_hugging_face(model):
        config: Any = model.config
        return int(config.num_hidden_layers)
    raise InputError(f"a tapped model must be a llamalab.Transformer or a LlamaForCausalLM; got {type(model).__name__}")


def is_hugging_face(model: "nn.Module") -> bool:
    """Whether it is a Llama of transformers, compiled or not, asked without importing that package."""
    return getattr(getattr(model, "config", None), "model_type", None) == "llama" and hasattr(model, "lm_head")
