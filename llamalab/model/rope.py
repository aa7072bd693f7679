"""Rotary position embedding (RoPE) of queries and keys, as Meta's llama/model.py computes it.

Pairs are adjacent (x[2j], x[2j+1]), rotated by the angle pos * theta**(-2j/E). As complex numbers
this is one product, in fp32, cast back (Su et al. 2021, arXiv 2104.09864). Hugging Face pairs
(x[j], x[j + E/2]) instead: the rows of wq and wk differ by a permutation. A partial rotation applies to the
beginning of each head; frequencies of a scaled RoPE are in llamalab.model.rope_scaling.

Angles are computed for the tokens of the pass: without a table there is no limit on positions and nothing in the
state dict. T new tokens, E head dim.
"""

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.model.rope_scaling import frequencies


def rotations(start: int | Tensor | tuple[int, ...], new_tokens: int, arch: LlamaArch, device: torch.device) -> Tensor:
    """turn_TP, complex: the number by which pair P = j of token start + t is multiplied, of magnitude 1 as a rule.

    The start may be a tensor of one element. A start for each row of a batch gives turn_B1TP.

    >>> rotations(0, 2, LlamaArch(4, 1, 1, 1, 8, 8), torch.device("cpu"))[1]  # angles 1 and 0.01
    tensor([0.5403+0.8415j, 0.9999+0.0100j])
    """
    if isinstance(start, tuple):
        return torch.stack([rotations(own, new_tokens, arch, device) for own in start]).unsqueeze(1)
    position_T = torch.arange(new_tokens, dtype=torch.float32, device=device) + start
    angle_TP = torch.outer(position_T, frequencies(arch, position_T))
    scaling = arch.rope_scaling
    return torch.polar(torch.full_like(angle_TP, 1.0 if scaling is None else scaling.attention_factor), angle_TP)


def rotate(x_BHTE: Tensor, turn_TP: Tensor) -> Tensor:
    """Turn every pair of every head by turn_TP or turn_B1TP; in fp32, returned in the dtype of the input."""
    turned = 2 * turn_TP.shape[-1]
    if turned < x_BHTE.shape[-1]:
        return torch.cat((rotate(x_BHTE[..., :turned], turn_TP), x_BHTE[..., turned:]), dim=-1)
    if torch.compiler.is_compiling():
        return _rotate_real(x_BHTE, turn_TP)
    # As a complex product: 20 to 50 times faster on a CPU than the same in real arithmetic.
    pairs_BHTP = torch.view_as_complex(x_BHTE.float().reshape(*x_BHTE.shape[:-1], -1, 2))
    return torch.view_as_real(pairs_BHTP * turn_TP).flatten(-2).type_as(x_BHTE)


def _rotate_real(x_BHTE: Tensor, turn_TP: Tensor) -> Tensor:
    """The same in real arithmetic: compilers have no code for complex numbers, and join this with its neighbours."""
    real_BHTP, imaginary_BHTP = x_BHTE.float().reshape(*x_BHTE.shape[:-1], -1, 2).unbind(-1)
    cos_TP, sin_TP = torch.view_as_real(turn_TP).unbind(-1)
    turned = (real_BHTP * cos_TP - imaginary_BHTP * sin_TP, real_BHTP * sin_TP + imaginary_BHTP * cos_TP)
    return torch.stack(turned, dim=-1).flatten(-2).type_as(x_BHTE)
