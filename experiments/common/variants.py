"""What Llama 2 replaced, as modules that take the place of its own: norms, where they stand, feed-forwards.

A change is a function that puts them into a built model. Only what is asked about differs: attention, RoPE, the
residual stream and the head stay. Who puts them in fills the model afterwards (llamalab.train.initial), by names.

B batch, T tokens, D model dim, F feed-forward dim, P rotated pairs.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from llamalab.model import Transformer

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sigmoid": functional.sigmoid,
}


class FeedForwardVariant(nn.Module):
    """w2(f(w1 x)), or gated w2(f(w1 x) * w3 x), without biases (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, dim: int, ffn_dim: int, activation: str, *, gated: bool) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.w1 = nn.Linear(dim, ffn_dim, bias=False)
        self.w2 = nn.Linear(ffn_dim, dim, bias=False)
        self.w3 = nn.Linear(dim, ffn_dim, bias=False) if gated else None

    def inner(self, x_BTD: Tensor) -> Tensor:
        """act_BTF, which w2 takes."""
        act_BTF = self.activation(self.w1(x_BTD))
        return act_BTF if self.w3 is None else act_BTF * self.w3(x_BTD)

    def forward(self, x_BTD: Tensor, *, tap: object = None) -> Tensor:
        out_BTD: Tensor = self.w2(self.inner(x_BTD))
        return out_BTD


class PostNormBlock(nn.Module):
    """A block as of 2017: each norm behind its residual sum, none before (Vaswani et al. 2017, arXiv 1706.03762).

    x = norm(x + attention(x));  x = norm(x + feed_forward(x))
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.attention, self.feed_forward = block.attention, block.feed_forward
        self.attention_norm, self.ffn_norm = block.attention_norm, block.ffn_norm

    def forward(self, x_BTD: Tensor, turn_TP: Tensor, *, cache: object = None, tap: object = None) -> Tensor:
        x_BTD = self.attention_norm(x_BTD + self.attention(x_BTD, turn_TP))
        x_BTD = self.ffn_norm(x_BTD + self.feed_forward(x_BTD))
        return x_BTD


def with_feed_forward(model: Transformer, *, activation: str, gated: bool, ffn_dim: int) -> Transformer:
    """The model with other feed-forwards."""
    for block in model.layers:
        block.feed_forward = FeedForwardVariant(model.arch.dim, ffn_dim, activation, gated=gated)
    return model


def with_layer_norm(model: Transformer) -> Transformer:
    """The model with torch's LayerNorm, weight and bias, in place of every RMSNorm."""
    arch = model.arch
    for block in model.layers:
        block.attention_norm = nn.LayerNorm(arch.dim, arch.norm_eps)
        block.ffn_norm = nn.LayerNorm(arch.dim, arch.norm_eps)
    model.norm = nn.LayerNorm(arch.dim, arch.norm_eps)  # type: ignore[assignment]
    return model


def with_post_norm(model: Transformer) -> Transformer:
    """The model with its norms behind the residual sums; the last block's stands for the final one."""
    for place, block in enumerate(model.layers):
        model.layers[place] = PostNormBlock(block)
    final: Any = nn.Identity()
    final.weight = model.norm.weight  # what asks for the model's dtype and device reads it there
    model.norm = final
    return model
