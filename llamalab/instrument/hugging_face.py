"""The points of a Llama in a Hugging Face model: the same tensors, through ordinary hooks.

torch.compile may not see hooks registered after compilation, so that compiled models run eagerly inside a block. A
tensor that is no module's input (rot_q, scores, pattern), or that has two uses (resid_mid), can be read but not
replaced. Unsupported edits raise InputError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llamalab.errors import InputError
from llamalab.instrument.hf_attention import AttentionHooks
from llamalab.instrument.hf_hooks import Hooks, hooks_of
from llamalab.instrument.points import POINTS
from llamalab.model.tap import Tap

# Each point's module in transformers, inside a layer and outside, where the module's output is the tensor.
_LAYER_OUTPUTS = {
    "attn_norm": "input_layernorm",
    "attn_out": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_out": "mlp.down_proj",
}
_GATE_AND_UP = {"feed_forward.gate": "mlp.gate_proj", "feed_forward.up": "mlp.up_proj"}
_TOP_OUTPUTS = {"embed": "model.embed_tokens", "final_norm": "model.norm", "logits": "lm_head"}


@contextmanager
def hooked(model: nn.Module, tap: Tap) -> Iterator[None]:
    """Call `tap` at the points of every forward pass inside the block."""
    with hooks_of(model, _put_on).holding(tap), torch.compiler.set_stance("force_eager"):
        yield


def _put_on(hooks: Hooks) -> None:
    """Attach all hooks of a model. Raises InputError where a module of its family is missing."""
    try:
        for point, path in _TOP_OUTPUTS.items():
            hooks.on_tensor(hooks.model.get_submodule(path), point)
        for layer, block in enumerate(hooks.model.get_submodule("model.layers").children()):
            _hook_layer(hooks, f"layers.{layer}.", block)
    except AttributeError as missing:
        raise InputError(f"a tapped Hugging Face model must have the modules of its family; {missing}") from None


def _hook_layer(hooks: Hooks, prefix: str, block: nn.Module) -> None:
    """Attach the hooks of one layer, so that the points fire in the order of the built-in model."""
    hooks.on_argument(block, prefix + "resid_pre")
    AttentionHooks(hooks, prefix, block.get_submodule("self_attn"))
    _look_at_residual(hooks, block.get_submodule("post_attention_layernorm"), prefix + "resid_mid")
    hooks.on_argument(block.get_submodule("mlp.down_proj"), prefix + "feed_forward.act")
    outputs = _LAYER_OUTPUTS
    if hasattr(block.get_submodule("mlp"), "gate_up_proj"):
        _hook_gate_and_up(hooks, prefix + "feed_forward.", block.get_submodule("mlp.gate_up_proj"))
    else:
        outputs = _LAYER_OUTPUTS | _GATE_AND_UP
    for point, path in outputs.items():
        hooks.on_tensor(block.get_submodule(path), prefix + point)
    inside = [name for point in POINTS if (name := point.name.replace("layers.*.", prefix)) != point.name]
    hooks.stay_for_backward(block, [name for name in inside if not name.endswith(("resid_pre", "resid_post"))])
    hooks.on_tensor(block, prefix + "resid_post")


def _look_at_residual(hooks: Hooks, norm: nn.Module, name: str) -> None:
    """Before a norm: the residual stream also bypasses it, so that only an in-place edit reaches both uses."""

    def hook(module: nn.Module, arguments: tuple[Tensor], options: dict[str, Any]) -> None:
        if hooks.replaced(name, arguments[0]) is not arguments[0]:
            raise InputError(
                f"{name} of a Hugging Face model must not be replaced: its norm alone would take it in; "
                "change it in place, or load it with llamalab.load"
            )

    hooks.on_input(norm, hook)


def _hook_gate_and_up(hooks: Hooks, prefix: str, projection: nn.Module) -> None:
    """Phi-3 computes both in one product, gate first."""

    def hook(module: nn.Module, arguments: Any, both: Tensor) -> Tensor | None:
        gate, up = both.chunk(2, dim=-1)
        results = hooks.replaced(prefix + "gate", gate), hooks.replaced(prefix + "up", up)
        return None if results[0] is gate and results[1] is up else torch.cat(results, dim=-1)

    hooks.on_output(projection, hook)
