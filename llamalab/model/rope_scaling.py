"""Frequencies of RoPE: theta**(-2j/E), or lower where RoPE was scaled beyond its first context.

llamalab.arch.parts.RopeScaling describes each kind, with its source. All is in fp32, as in training: at position
100,000 another rounding of a frequency is another angle.

P = E / 2 frequencies of a head dim E (of its turned part).
"""

import math

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.arch.parts import RopeScaling


def frequencies(arch: LlamaArch, position_T: Tensor) -> Tensor:
    """frequency_P in radians per token, of a pass over tokens at these positions, the last of which ends the text.

    Dynamic NTK and longrope depend on its length. Keys in a cache keep the turns they were stored with.

    >>> frequencies(LlamaArch(8, 1, 1, 1, 8, 8), torch.arange(1.0))
    tensor([1.0000, 0.1000, 0.0100, 0.0010])
    """
    exponent_P = torch.arange(0, arch.rotary_dim, 2, dtype=torch.float32, device=position_T.device) / arch.rotary_dim
    scaling = arch.rope_scaling
    if scaling is None:
        return 1.0 / arch.rope_theta**exponent_P
    if scaling.kind == "linear":
        return 1.0 / arch.rope_theta**exponent_P / scaling.factor
    if scaling.kind == "dynamic":
        return 1.0 / _grown_base(arch, scaling, position_T[-1] + 1) ** exponent_P
    if scaling.kind == "longrope":
        return 1.0 / (_divisors(scaling, position_T[-1] + 1) * arch.rope_theta**exponent_P)
    return (_llama3 if scaling.kind == "llama3" else _yarn)(scaling, arch, exponent_P)


def _grown_base(arch: LlamaArch, scaling: RopeScaling, length: Tensor) -> Tensor:
    """Theta, and more of it the longer the text is beyond the original context."""
    factor, original, dim = scaling.factor, scaling.original_positions, arch.rotary_dim
    stretch = factor * length.clamp(min=original) / original - (factor - 1)
    return arch.rope_theta * stretch ** (dim / (dim - 2))


def _divisors(scaling: RopeScaling, length: Tensor) -> Tensor:
    """divisor_P: the long ones as soon as the text is longer than the original context."""
    short_P, long_P = (
        torch.tensor(factors, dtype=torch.float32, device=length.device)
        for factors in (scaling.short_factors, scaling.long_factors)
    )
    return torch.where(length > scaling.original_positions, long_P, short_P)


def _llama3(scaling: RopeScaling, arch: LlamaArch, exponent_P: Tensor) -> Tensor:
    """Long waves slowed by the factor, short ones kept, those between mixed by how often they fit the context."""
    kept_P = 1.0 / arch.rope_theta**exponent_P
    wave_P = 2 * math.pi / kept_P
    low, high, original = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_positions
    share_P = (original / wave_P - low) / (high - low)
    mixed_P = (1 - share_P) * kept_P / scaling.factor + share_P * kept_P
    slowed_P = torch.where(wave_P > original / low, kept_P / scaling.factor, mixed_P)
    return torch.where(wave_P < original / high, kept_P, slowed_P)


def _yarn(scaling: RopeScaling, arch: LlamaArch, exponent_P: Tensor) -> Tensor:
    """Pairs that turn often in the original context kept, those that turn rarely slowed, a ramp between them."""
    wave_P = arch.rope_theta**exponent_P
    first, last = (_pair_of(turns, scaling, arch) for turns in (scaling.beta_fast, scaling.beta_slow))
    if scaling.rounded:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, arch.rotary_dim - 1)
    last = last + 0.001 if first == last else last  # a steep ramp instead of a step, whose width would be 0
    pair_P = torch.arange(exponent_P.numel(), dtype=torch.float32, device=exponent_P.device)
    kept_share_P = 1 - ((pair_P - first) / (last - first)).clamp(0, 1)
    return 1.0 / (scaling.factor * wave_P) * (1 - kept_share_P) + 1.0 / wave_P * kept_share_P


def _pair_of(turns: float, scaling: RopeScaling, arch: LlamaArch) -> float:
    """The pair with so many rotations in the original context, in general a fraction between two pairs."""
    wave = scaling.original_positions / (turns * 2 * math.pi)
    return arch.rotary_dim * math.log(wave) / (2 * math.log(arch.rope_theta))
