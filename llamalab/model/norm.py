"""RMSNorm: x / sqrt(mean(x**2) + eps) * weight (Zhang & Sennrich 2019, arXiv 1910.07467).

As in Meta's code: mean and quotient in fp32, then cast, then times the weight. D model dim.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Scales each token to a root mean square of 1, then by a learned weight_D."""

    def __init__(
        self, dim: int, eps: float, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim, dtype=dtype, device=device))

    def forward(self, x_BTD: Tensor) -> Tensor:
        # rms_norm computes in fp32 and casts its result; given the weight it would cast after it.
        return functional.rms_norm(x_BTD, self.weight.shape, None, self.eps) * self.weight
