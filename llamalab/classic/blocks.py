"""The blocks of the paper's figure 1: each step is norm(x + step(x)), the norm behind the sum ("post-norm").

Dropout on the output of every step, before the sum (section 5.4). B batch, T tokens, D dim, F feed-forward dim.
"""

import torch
from torch import Tensor, nn

from llamalab.classic.attention import MultiHeadAttention
from llamalab.classic.shape import ClassicArch
from llamalab.classic.state import LayerState
from llamalab.model.tap import Tap


class ReluFeedForward(nn.Module):
    """w2 relu(w1 x + b1) + b2, at every position alone."""

    def __init__(self, arch: ClassicArch, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.w1 = nn.Linear(arch.dim, arch.ffn_dim)
        self.w2 = nn.Linear(arch.ffn_dim, arch.dim)

    def forward(self, x_BTD: Tensor, tap: Tap | None = None) -> Tensor:
        up_BTF = self.w1(x_BTD)
        up_BTF = up_BTF if tap is None else tap(self.prefix + ".up", up_BTF)
        act_BTF = torch.relu(up_BTF)
        act_BTF = act_BTF if tap is None else tap(self.prefix + ".act", act_BTF)
        out_BTD: Tensor = self.w2(act_BTF)
        return out_BTD if tap is None else tap(self.prefix + ".out", out_BTD)


class PostNormBlock(nn.Module):
    """A layer of the encoder or, with a causal mask, of the decoder; `cross` adds attention to the source."""

    def __init__(self, arch: ClassicArch, prefix: str, dropout: float, *, cross: bool = False) -> None:
        super().__init__()
        self.prefix, self.dropout = prefix, nn.Dropout(dropout)
        self.attention = MultiHeadAttention(arch, prefix + ".attention")
        self.attention_norm = nn.LayerNorm(arch.dim, arch.norm_eps)
        self.cross_attention = MultiHeadAttention(arch, prefix + ".cross_attention", cross=True) if cross else None
        self.cross_attention_norm = nn.LayerNorm(arch.dim, arch.norm_eps) if cross else None
        self.feed_forward = ReluFeedForward(arch, prefix + ".feed_forward")
        self.feed_forward_norm = nn.LayerNorm(arch.dim, arch.norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        seen: Tensor,
        *,
        source_BSD: Tensor | None = None,
        source_seen: Tensor | None = None,
        state: LayerState | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        """x_BTD; the source and what is seen of it are for cross attention."""
        step_BTD = self.attention(x_BTD, None, seen, state=state, tap=tap)
        x_BTD = self._joined("attention", self.attention_norm, x_BTD, step_BTD, tap)
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            step_BTD = self.cross_attention(x_BTD, source_BSD, source_seen, state=state, tap=tap)
            x_BTD = self._joined("cross_attention", self.cross_attention_norm, x_BTD, step_BTD, tap)
        return self._joined("feed_forward", self.feed_forward_norm, x_BTD, self.feed_forward(x_BTD, tap), tap)

    def _joined(self, step: str, norm: nn.Module, x_BTD: Tensor, step_BTD: Tensor, tap: Tap | None) -> Tensor:
        x_BTD = x_BTD + self.dropout(step_BTD)
        x_BTD = x_BTD if tap is None else tap(f"{self.prefix}.{step}.residual", x_BTD)
        x_BTD = norm(x_BTD)
        return x_BTD if tap is None else tap(f"{self.prefix}.{step}.norm", x_BTD)
