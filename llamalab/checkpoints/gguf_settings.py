"""The architecture in a GGUF file's settings: every `llama.` key is used, known to change nothing, or refused by name.

What a key means, and where it is missing, is what it means to llama.cpp (src/llama-model.cpp, 2026):
a scaling factor without a type is linear; type none ignores factors; linear and YaRN by a factor of 1 are no scaling.
Keys of a number a layer may be lists of one value.
"""

from math import isclose, sqrt
from typing import Any

import numpy as np

from llamalab.arch import LlamaArch
from llamalab.errors import FormatError
from llamalab.formats.gguf_header import Value

_PREFIX = "llama."
_A_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
_USED = frozenset((
    *_A_LAYER, "context_length", "embedding_length", "block_count", "attention.layer_norm_rms_epsilon",
    "rope.freq_base", "rope.dimension_count", "attention.key_length", "attention.value_length", "embedding_length_out",
    "attention.scale", "attention.sliding_window", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"
))  # fmt: skip
# Of a file's vocabulary, of embedding models, of another norm, or of a scaling that is not there.
_NO_EFFECT = frozenset((
    "vocab_size", "pooling_type", "attention.layer_norm_epsilon", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier", "rope.scaling.alpha"
))  # fmt: skip
# Keys that change the computation, and the values with which they do not.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "use_parallel_residual": (False,),
    "tensor_data_layout": (b"Meta AI original pth",),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.yarn_attn_factor": (1.0,),
    "rope.scaling.yarn_ext_factor": (0.0, -1.0),
    "residual_scale": (1.0, 0.0),
    "embedding_scale": (1.0, 0.0),
    "logit_scale": (1.0, 0.0),
} | dict.fromkeys((
    "attention.clamp_kqv", "attention.max_alibi_bias", "attn_logit_softcapping", "final_logit_softcapping",
    "expert_count", "expert_used_count", "expert_shared_count", "expert_feed_forward_length",
    "expert_shared_feed_forward_length", "expert_weights_scale", "expert_gating_func", "leading_dense_block_count",
    "nextn_predict_layers"
), (0,))  # fmt: skip
_WITHOUT_SCALE = (b"none", b"linear", b"yarn")  # by a factor of 1


def arch_of(settings: dict[str, Value], vocab_size: int, *, tied: bool) -> LlamaArch:
    """The architecture in some settings; the vocabulary is as large as the embedding.

    Raises FormatError, by the name of the key, for what is not a Llama 2.
    """
    architecture, kind = settings.get("general.architecture"), settings.get("general.type", b"model")
    if architecture != b"llama":
        raise FormatError(f"general.architecture of a GGUF file must be 'llama'; got {architecture!r}")
    if kind != b"model":
        raise FormatError(f"general.type of a GGUF file must be 'model'; got {kind!r}")
    own = {key.removeprefix(_PREFIX): value for key, value in settings.items() if key.startswith(_PREFIX)}
    _check_plain(own)
    _check_scaling(own)
    n_layers = _setting(own, "block_count")
    own |= {key: _one_value(key, own[key], n_layers) for key in _A_LAYER if key in own}
    heads = _setting(own, "attention.head_count")
    arch = LlamaArch(
        dim=_setting(own, "embedding_length"),
        n_layers=n_layers,
        n_heads=heads,
        n_kv_heads=_setting(own, "attention.head_count_kv", heads),
        ffn_dim=_setting(own, "feed_forward_length"),
        vocab_size=vocab_size,
        norm_eps=_setting(own, "attention.layer_norm_rms_epsilon"),
        rope_theta=_setting(own, "rope.freq_base", 10_000.0),
        tied_embeddings=tied,
        max_positions=_setting(own, "context_length", 4096),
    )
    _check_sizes(own, arch)
    return arch


def _setting(own: dict[str, Value], key: str, default: Any = None) -> Any:
    value = own.get(key, default)
    if value is None:
        raise FormatError(f"a GGUF file of a Llama must have the setting {_PREFIX}{key}; it has none")
    # The file holds eps as fp32; what was meant is the shortest decimal that rounds to it.
    return float(np.format_float_positional(np.float32(value))) if isinstance(value, float) else value


def _one_value(key: str, value: Value, n_layers: Any) -> Value:
    if not isinstance(value, np.ndarray):
        return value
    if len(value) != n_layers or len(set(value.tolist())) != 1:
        raise FormatError(f"{_PREFIX}{key} must be one number, or the same for each of {n_layers} layers; it is not")
    first: int | float = value[0].item()
    return first


def _check_plain(own: dict[str, Value]) -> None:
    for key, value in own.items():
        if key in _USED or key in _NO_EFFECT:
            continue
        if key not in _PLAIN:
            raise FormatError(f"a GGUF file of a Llama must have settings that are known; {_PREFIX}{key} is not")
        if not any(_is(value, plain) for plain in _PLAIN[key]):
            raise FormatError(f"{_PREFIX}{key} must be {_shown(_PLAIN[key][0])}, as in Llama 2; got {_shown(value)}")


def _is(value: Value, plain: Any) -> bool:
    """Whether a value is a plain one; a list is where all of it is."""
    if isinstance(value, np.ndarray):
        return all(one == plain for one in value.tolist())
    return isinstance(value, bool) == isinstance(plain, bool) and value == plain


def _check_scaling(own: dict[str, Value]) -> None:
    kind = own.get("rope.scaling.type", b"linear")
    if kind not in _WITHOUT_SCALE:
        raise FormatError(f"{_PREFIX}rope.scaling.type must be 'none', as in Llama 2; got {_shown(kind)}")
    key = "rope.scaling.factor" if "rope.scaling.factor" in own else "rope.scale_linear"
    if kind != b"none" and not any(_is(own.get(key, 1.0), one) for one in (1.0, 0.0)):
        raise FormatError(f"{_PREFIX}{key} must be 1, as in Llama 2, which scales no RoPE; got {_shown(own[key])}")


def _check_sizes(own: dict[str, Value], arch: LlamaArch) -> None:
    """What a Llama 2 derives from other sizes must be what it derives."""
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        if own.get(key, arch.head_dim) != arch.head_dim:
            raise FormatError(f"{_PREFIX}{key} must be the head size {arch.head_dim}; got {_shown(own[key])}")
    if own.get("embedding_length_out", arch.dim) not in (arch.dim, 0):
        raise FormatError(
            f"{_PREFIX}embedding_length_out must be {arch.dim}; got {_shown(own['embedding_length_out'])}"
        )
    scale, window = own.get("attention.scale", 0.0), own.get("attention.sliding_window", 0)
    if not isinstance(scale, int | float) or (scale and not isclose(scale, 1 / sqrt(arch.head_dim), rel_tol=1e-6)):
        raise FormatError(
            f"{_PREFIX}attention.scale must be that of the head size {arch.head_dim}; got {_shown(scale)}"
        )
    if not isinstance(window, int) or 0 < window < arch.max_positions:
        raise FormatError(f"{_PREFIX}attention.sliding_window must be as long as the context; got {_shown(window)}")


def _shown(value: Any) -> str:
    return f"{value.decode('utf-8', 'replace') if isinstance(value, bytes) else value!r:.80}"
