"""Our points in a Hugging Face LlamaForCausalLM: the same tensors, reached by ordinary hooks.

The model is left as it is; hooks are taken off when the block ends. Heads of q and k are turned from
halves (x[j], x[j + E/2]) to our neighbouring pairs, and back where a tap replaced them. Rotated queries
and keys, scores and pattern exist only inside a function, not in a module: they are computed again for
a tap that wants them, and cannot be replaced. What cannot be done raises InputError; nothing is passed
by. B batch, T new tokens, S keys in view, H query heads, K KV heads, E head dim.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llamalab.attention import naive
from llamalab.errors import InputError
from llamalab.instrument.points import POINTS, Point
from llamalab.model.tap import Tap, reads_tensors, wants

# Our point, their module, inside a layer and around the layers; where its output is the tensor.
_LAYER_OUTPUTS = {
    "attn_norm": "input_layernorm",
    "attn_out": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "ffn_out": "mlp.down_proj",
}
_HEADS = {"q": "q_proj", "k": "k_proj", "v": "v_proj"}
_TOP_OUTPUTS = {"embed": "model.embed_tokens", "final_norm": "model.norm", "logits": "lm_head"}


@contextmanager
def hooked(model: nn.Module, tap: Tap) -> Iterator[None]:
    """Call `tap` at our points of every forward pass inside the block."""
    if hasattr(model, "_orig_mod") or any(module._compiled_call_impl is not None for module in model.modules()):
        raise InputError("a Hugging Face model must be tapped before torch.compile; hooks put on it later may not fire")
    with ExitStack() as stack:

        def on_output(module: nn.Module, hook: Callable[..., Any]) -> None:
            stack.callback(module.register_forward_hook(hook).remove)

        def on_input(module: nn.Module, hook: Callable[..., Any]) -> None:
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

        on_input(model, _check_mask)
        for point, path in _TOP_OUTPUTS.items():
            on_output(model.get_submodule(path), _output(tap, point))
        for layer, block in enumerate(model.get_submodule("model.layers").children()):
            _hook_layer(tap, layer, block, on_input, on_output)
        yield


def _hook_layer(
    tap: Tap, layer: int, block: nn.Module, on_input: Callable[..., None], on_output: Callable[..., None]
) -> None:
    """Put the hooks on one layer, so that the points fire in our order."""
    prefix, attention = f"layers.{layer}.", _Attention(tap, layer, block.get_submodule("self_attn"))
    on_input(block, _input(tap, prefix + "resid_pre", replaceable=True))
    on_input(attention.module, attention.begin)
    for point, path in _HEADS.items():
        on_output(attention.module.get_submodule(path), attention.projected(point))
    on_input(attention.module.get_submodule("o_proj"), attention.attended)
    on_input(block.get_submodule("post_attention_layernorm"), _input(tap, prefix + "resid_mid", replaceable=False))
    on_input(block.get_submodule("mlp.down_proj"), _input(tap, prefix + "feed_forward.act", replaceable=True))
    for point, path in _LAYER_OUTPUTS.items():
        on_output(block.get_submodule(path), _output(tap, prefix + point))
    on_output(block, _output(tap, prefix + "resid_post"))


class _Attention:
    """The hooks inside one attention module; they share what a pass has computed so far."""

    def __init__(self, tap: Tap, layer: int, module: nn.Module) -> None:
        self.tap, self.layer, self.module = tap, layer, module
        self.prefix, self.head_dim = f"layers.{layer}.attention.", int(module.head_dim)  # type: ignore[arg-type]
        self._heads: dict[str, Tensor] = {}
        self._options: dict[str, Any] = {}

    def begin(self, module: nn.Module, arguments: Any, options: dict[str, Any]) -> None:
        """Note the turns of RoPE and the cache that this pass was given."""
        self._options = options

    def projected(self, point: str) -> Callable[..., Tensor | None]:
        """The hook after a projection to heads."""

        def hook(module: nn.Module, arguments: Any, x_BTD: Tensor) -> Tensor | None:
            theirs = x_BTD.view(*x_BTD.shape[:2], -1, self.head_dim).transpose(1, 2)
            ours = theirs if point == "v" or not reads_tensors(self.tap) else _pairs(theirs)
            result = self.tap(self.prefix + point, ours)
            self._heads[point] = theirs
            if result is ours:
                return None
            self._heads[point] = theirs = result if point == "v" else _halves(result)
            return theirs.transpose(1, 2).reshape(x_BTD.shape)

        return hook

    def attended(self, module: nn.Module, arguments: tuple[Tensor], options: dict[str, Any]) -> Any:
        """Before the output projection: everything between the projections, then z, which is its input."""
        (x_BTD,) = arguments
        if reads_tensors(self.tap):
            self._look()
        # Nothing of a pass is held longer than the model itself would hold it.
        self._heads, self._options = {}, {}
        z_BHTE = x_BTD.view(*x_BTD.shape[:2], -1, self.head_dim).transpose(1, 2)
        result = self.tap(self.prefix + "z", z_BHTE)
        if result is z_BHTE:
            return None
        return (result.transpose(1, 2).reshape(x_BTD.shape),), options

    def _look(self) -> None:
        attended = getattr(self.tap, "attended", None)
        if attended is None and not any(wants(self.tap, self._numbered(point)) for point in POINTS if point.inside):
            return
        q_BHTE, k_BKTE = (self._turned(self._heads[point]) for point in ("q", "k"))
        k_BKSE, v_BKSE = self._in_view(k_BKTE)
        for point, tensor in (("rot_q", q_BHTE), ("rot_k", k_BKTE), ("k_cache", k_BKSE), ("v_cache", v_BKSE)):
            self._show(point, tensor)
        if wants(self.tap, self.prefix + "scores") or wants(self.tap, self.prefix + "pattern"):
            offset = k_BKSE.shape[2] - q_BHTE.shape[2]
            scores_BHTS = naive.scores(q_BHTE, k_BKSE, query_offset=offset)
            self._show("scores", scores_BHTS)
            self._show("pattern", naive.pattern(scores_BHTS))
        elif attended is not None:
            attended(self.prefix, q_BHTE, k_BKSE)

    def _numbered(self, point: Point) -> str:
        return point.name.replace("*", str(self.layer))

    def _turned(self, x_BHTE: Tensor) -> Tensor:
        """Rotated as their attention does it, with the turns it was given; in our order."""
        cos_BTE, sin_BTE = self._options["position_embeddings"]
        first, second = x_BHTE.chunk(2, dim=-1)
        turned = x_BHTE * cos_BTE.unsqueeze(1) + torch.cat((-second, first), dim=-1) * sin_BTE.unsqueeze(1)
        return _pairs(turned)

    def _in_view(self, k_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        cache = self._options.get("past_key_values")
        if cache is None:
            return k_BKTE, self._heads["v"]
        held = cache.layers[self.layer]
        return _pairs(held.keys), held.values

    def _show(self, point: str, tensor: Tensor) -> None:
        _unchanged(self.prefix + point, tensor, self.tap(self.prefix + point, tensor))


def _output(tap: Tap, name: str) -> Callable[..., Tensor | None]:
    def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        result = tap(name, tensor)
        if result is tensor:
            return None
        return (result, *output[1:]) if isinstance(output, tuple) else result

    return hook


def _input(tap: Tap, name: str, *, replaceable: bool) -> Callable[..., Any]:
    def hook(module: nn.Module, arguments: tuple[Tensor, ...], options: dict[str, Any]) -> Any:
        result = tap(name, arguments[0])
        if result is arguments[0]:
            return None
        if not replaceable:
            _unchanged(name, arguments[0], result)
        return (result, *arguments[1:]), options

    return hook


def _unchanged(name: str, tensor: Tensor, result: Tensor) -> None:
    if result is not tensor:
        raise InputError(
            f"{name} of a Hugging Face model must not be replaced: no module takes it in; load it with llamalab.load"
        )


def _check_mask(model: nn.Module, arguments: Any, options: dict[str, Any]) -> None:
    mask = options.get("attention_mask")
    if mask is not None and not bool(mask.all()):
        raise InputError("a tapped Hugging Face model must be run without padding; got an attention_mask with zeros")


def _pairs(x_BHTE: Tensor) -> Tensor:
    """(x[j], x[j + E/2]) side by side."""
    return x_BHTE.view(*x_BHTE.shape[:-1], 2, -1).transpose(-1, -2).flatten(-2)


def _halves(x_BHTE: Tensor) -> Tensor:
    """The way back."""
    return x_BHTE.reshape(*x_BHTE.shape[:-1], -1, 2).transpose(-1, -2).flatten(-2)
