"""The feed-forward network: SwiGLU, w2(silu(w1 x) * w3 x) (Shazeer 2020, arXiv 2002.05202).

B batch, T new tokens, D model dim, F feed-forward dim.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from llamalab.arch import LlamaArch
from llamalab.model.tap import Tap


class FeedForward(nn.Module):
    """w1 is the gate, w3 goes up, w2 down; names as in Meta's checkpoints."""

    def __init__(
        self, arch: LlamaArch, layer: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.prefix = f"layers.{layer}.feed_forward."
        self.w1 = nn.Linear(arch.dim, arch.ffn_dim, bias=arch.ffn_bias, dtype=dtype, device=device)
        self.w2 = nn.Linear(arch.ffn_dim, arch.dim, bias=arch.ffn_bias, dtype=dtype, device=device)
        self.w3 = nn.Linear(arch.dim, arch.ffn_dim, bias=arch.ffn_bias, dtype=dtype, device=device)

    def forward(self, x_BTD: Tensor, *, tap: Tap | None = None) -> Tensor:
        gate_BTF = self.w1(x_BTD)
        gate_BTF = gate_BTF if tap is None else tap(self.prefix + "gate", gate_BTF)
        up_BTF = self.w3(x_BTD)
        up_BTF = up_BTF if tap is None else tap(self.prefix + "up", up_BTF)
        act_BTF = functional.silu(gate_BTF) * up_BTF
        act_BTF = act_BTF if tap is None else tap(self.prefix + "act", act_BTF)
        out_BTD: Tensor = self.w2(act_BTF)
        return out_BTD
