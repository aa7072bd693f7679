"""Sinusoidal positions: added to the embedding, nothing learned, any position (section 3.5 of the paper).

    PE[t, 2j] = sin(t / 10000**(2j/D)),  PE[t, 2j+1] = cos(t / 10000**(2j/D))

T tokens, D dim.
"""

import torch
from torch import Tensor

BASE_WAVE = 10_000.0


def sinusoids(start: int, new_tokens: int, dim: int, *, device: torch.device | None = None) -> Tensor:
    """pe_TD in fp32 of the tokens from `start` on.

    >>> sinusoids(1, 1, 4)
    tensor([[0.8415, 0.5403, 0.0100, 0.9999]])
    """
    position_T = torch.arange(start, start + new_tokens, dtype=torch.float32, device=device)
    exponent_P = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
    angle_TP = torch.outer(position_T, BASE_WAVE**-exponent_P)
    return torch.stack((angle_TP.sin(), angle_TP.cos()), dim=-1).flatten(-2)
