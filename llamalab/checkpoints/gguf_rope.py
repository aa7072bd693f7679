"""Scaled RoPE in GGUF: settings for linear and YaRN, tensors of frequency divisors for Llama 3 and longrope.

llama.cpp multiplies the attention factor of YaRN by 1 + ln(factor) / 10 on its own. `rope_freqs` are Llama 3's
divisors without factor and original context; these are recovered where they reproduce the divisors, which otherwise
are read as longrope with one list. P frequencies.
Source: llama.cpp src/llama-model.cpp, ggml/src/ggml-cpu/ops.cpp (rope_yarn), conversion of Llama and Phi-3.
"""

from collections.abc import Mapping
from math import log, pi
from typing import Any

import torch

from llamalab.arch import LlamaArch
from llamalab.arch.parts import RopeScaling
from llamalab.errors import FormatError
from llamalab.model.rope_scaling import frequencies

FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
DIVISORS = (FREQS, LONG, SHORT)
SETTINGS = (
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
)
_TYPE, _ATTENTION = "rope.scaling.type", "rope.scaling.attn_factor"
_TYPES = (b"none", b"linear", b"yarn", b"longrope")
_CLOSE = 1e-5  # relative, of divisors in fp32 computed from frequencies in fp32

Divisors = Mapping[str, tuple[float, ...]]


def read_scaling(own: Mapping[str, Any], divisors: Divisors, arch: LlamaArch, prefix: str) -> RopeScaling | None:
    """The RoPE scaling of a file for `arch`, which has none yet.

    `own` are the settings without the architecture's `prefix`. Raises FormatError where no RopeScaling describes it.
    """
    kind = own.get(_TYPE, b"linear")
    if kind not in _TYPES:
        raise FormatError(f"{prefix}{_TYPE} must be none, linear, yarn or longrope; got {kind!r}")
    key = "rope.scaling.factor" if "rope.scaling.factor" in own else "rope.scale_linear"
    factor = 1.0 if kind == b"none" else own.get(key, 1.0) or 1.0
    original = own.get("rope.scaling.original_context_length", arch.max_positions)
    attention = own.get(_ATTENTION, 1.0)
    _check_yarn(own, prefix, is_yarn=kind == b"yarn" and factor != 1)
    given = {name: values for name, values in divisors.items() if any(value != 1 for value in values)}
    if given:
        if factor != 1:
            raise FormatError(f"{prefix}{key} must be 1 beside {' and '.join(given)}; got {factor!r}")
        return _from_divisors(divisors, original, attention, arch)
    if kind == b"longrope" and not divisors:
        raise FormatError(f"{prefix}{_TYPE} of longrope must go with {LONG} and {SHORT}; there are none")
    if kind == b"yarn" and factor != 1:
        return RopeScaling("yarn", factor, original, attention * _yarn_attention(factor))
    if attention != 1:
        raise FormatError(f"{prefix}{_ATTENTION} must be 1 where RoPE is not stretched by yarn; got {attention!r}")
    return None if factor == 1 else RopeScaling("linear", factor, original)


def written_scaling(arch: LlamaArch) -> tuple[dict[str, Any], Divisors]:
    """Settings without a prefix, and tensors, that express the RoPE scaling of an architecture."""
    scaling = arch.rope_scaling
    if scaling is None:
        return {}, {}
    original = {"rope.scaling.original_context_length": scaling.original_positions}
    if scaling.kind == "llama3":
        return {}, {FREQS: _divisors(arch)}
    if scaling.kind == "longrope":
        settings = {_TYPE: "longrope", **original, _ATTENTION: float(scaling.attention_factor)}
        return settings, {LONG: scaling.long_factors, SHORT: scaling.short_factors}
    settings = {_TYPE: scaling.kind, "rope.scaling.factor": float(scaling.factor), **original}
    if scaling.kind == "yarn":
        settings[_ATTENTION] = scaling.attention_factor / _yarn_attention(scaling.factor)
    return settings, {}


def _yarn_attention(factor: float) -> float:
    """The factor of YaRN on cosine and sine (arXiv 2309.00071, equation 22)."""
    return 1.0 if factor <= 1 else 0.1 * log(factor) + 1.0


def _check_yarn(own: Mapping[str, Any], prefix: str, *, is_yarn: bool) -> None:
    plain: dict[str, tuple[float, ...]] = {
        "rope.scaling.yarn_attn_factor": (1.0,),
        "rope.scaling.yarn_ext_factor": (-1.0, 1.0) if is_yarn else (-1.0, 0.0),
    }
    if is_yarn:  # llama.cpp reads these keys for other architectures only; here they must equal its defaults
        plain |= {"rope.scaling.yarn_beta_fast": (32.0,), "rope.scaling.yarn_beta_slow": (1.0,)}
        plain["rope.scaling.yarn_log_multiplier"] = (0.0,)
    for key, values in plain.items():
        if own.get(key, values[0]) not in values:
            raise FormatError(f"{prefix}{key} must be {values[0]:g}; got {own[key]!r}")


def _from_divisors(divisors: Divisors, original: int, attention: float, arch: LlamaArch) -> RopeScaling:
    if FREQS in divisors:
        found = _llama3(divisors[FREQS], arch) if attention == 1 else None
        both = divisors[FREQS]
        return found or RopeScaling("longrope", 1.0, original, attention, short_factors=both, long_factors=both)
    if LONG not in divisors or SHORT not in divisors:
        raise FormatError(f"{LONG} and {SHORT} of a GGUF file must come together; one is missing")
    factor = max(1.0, arch.max_positions / original)
    return RopeScaling(
        "longrope", factor, original, attention, short_factors=divisors[SHORT], long_factors=divisors[LONG]
    )


def _llama3(found: tuple[float, ...], arch: LlamaArch) -> RopeScaling | None:
    """Llama 3's scaling that has these divisors, with its constant low factor 1 and high factor 4."""
    factor = max(found)
    plain = 2 * pi / frequencies(arch, torch.tensor(1.0))
    # The divisor of a wavelength between the two limits determines the original context.
    shares = [
        wave * (1 + 3 * (1 / divisor - 1 / factor) / (1 - 1 / factor))
        for wave, divisor in zip(plain.tolist(), found, strict=True)
        if 1 < divisor < factor
    ]
    for original in (*map(round, shares[:1]), 8192):
        scaling = RopeScaling("llama3", factor, max(original, 1))
        made = torch.tensor(_divisors(arch.replace(rope_scaling=scaling)))
        if torch.allclose(made, torch.tensor(found), rtol=_CLOSE, atol=0):
            return scaling
    return None


def _divisors(arch: LlamaArch) -> tuple[float, ...]:
    """The divisor of each frequency of an architecture."""
    length = torch.tensor(1.0)
    plain_P = frequencies(arch.replace(rope_scaling=None), length)
    return tuple((plain_P / frequencies(arch, length)).tolist())
