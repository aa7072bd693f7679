"""Multi-head attention as in the paper: softmax(Q K^T / sqrt(E)) V, every step in memory.

Self attention takes keys and values from its own input, cross attention from the encoder's output.
B batch, T queries, S keys, D dim, H heads, E head dim.
"""

import torch
from torch import Tensor, nn

from llamalab.classic.shape import ClassicArch
from llamalab.classic.state import KeysValues, LayerState
from llamalab.model.tap import Tap


class MultiHeadAttention(nn.Module):
    """Projections wq, wk, wv, wo around attention; `cross` takes keys and values from the encoder."""

    def __init__(self, arch: ClassicArch, prefix: str, *, cross: bool = False) -> None:
        super().__init__()
        self.n_heads, self.prefix, self.cross = arch.n_heads, prefix, cross
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(arch.dim, arch.dim, bias=arch.attention_bias) for _ in range(4))

    def forward(
        self,
        x_BTD: Tensor,
        source_BSD: Tensor | None,
        seen: Tensor,
        *,
        state: LayerState | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        """out_BTD; `seen` broadcasts to (B, H, T, S), True where a query sees a key."""
        q_BHTE = self._tapped("q", self._heads(self.wq(x_BTD)), tap)
        k_BHSE, v_BHSE = self._keys_values(x_BTD if source_BSD is None else source_BSD, state, tap)
        scores_BHTS = (q_BHTE @ k_BHSE.transpose(2, 3)) * q_BHTE.shape[-1] ** -0.5
        scores_BHTS = self._tapped("scores", scores_BHTS.masked_fill(~seen, float("-inf")), tap)
        pattern_BHTS = self._tapped("pattern", torch.softmax(scores_BHTS, dim=-1), tap)
        z_BHTE = self._tapped("z", pattern_BHTS @ v_BHSE, tap)
        return self._tapped("out", self.wo(z_BHTE.transpose(1, 2).flatten(2)), tap)

    def _keys_values(self, x_BSD: Tensor, state: LayerState | None, tap: Tap | None) -> KeysValues:
        if self.cross and state is not None and state.cross is not None:
            return state.cross  # made from the source once, at the first token
        k_BHSE = self._tapped("k", self._heads(self.wk(x_BSD)), tap)
        made = KeysValues(k_BHSE, self._tapped("v", self._heads(self.wv(x_BSD)), tap))
        if state is None:
            return made
        if self.cross:
            state.cross = made
            return made
        return state.append(made)

    def _heads(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.view(*x_BSD.shape[:2], self.n_heads, -1).transpose(1, 2)

    def _tapped(self, name: str, tensor: Tensor, tap: Tap | None) -> Tensor:
        return tensor if tap is None else tap(f"{self.prefix}.{name}", tensor)
