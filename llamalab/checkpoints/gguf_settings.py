"""The architecture in a GGUF file's settings: every key is used, ignored as without effect, or refused by name.

Meaning and default of each key are llama.cpp's (src/llama-model.cpp, 2026); gguf_rope reads the keys of scaled
RoPE. A key with one number a layer may be a list of equal values.
"""

from collections.abc import Collection
from math import isclose, sqrt
from typing import Any, NamedTuple

import numpy as np

from llamalab.arch import LlamaArch
from llamalab.checkpoints.gguf_architectures import BIASES, Architecture, architecture_called
from llamalab.checkpoints.gguf_rope import SETTINGS, Divisors, read_scaling
from llamalab.errors import FormatError
from llamalab.formats.gguf_header import Value

_A_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
_HEADS = ("attention.key_length", "attention.value_length")
_USED = frozenset(
    (
        *_A_LAYER,
        *_HEADS,
        *SETTINGS,
        "context_length",
        "embedding_length",
        "block_count",
        "rope.freq_base",
        "attention.layer_norm_rms_epsilon",
        "rope.dimension_count",
        "embedding_length_out",
        "attention.scale",
        "attention.sliding_window",
    )
)
# Keys of the vocabulary, of embedding models, of another norm, or of a RoPE scaling that is off.
_NO_EFFECT = frozenset(
    ("vocab_size", "pooling_type", "attention.layer_norm_epsilon", "rope.scaling.finetuned", "rope.scaling.alpha")
)
# Keys that change the computation, and the values that leave it as it is.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "use_parallel_residual": (False,),
    "tensor_data_layout": (b"Meta AI original pth",),
    "residual_scale": (1.0, 0.0),
    "embedding_scale": (1.0, 0.0),
    "logit_scale": (1.0, 0.0),
} | dict.fromkeys(
    (
        "attention.clamp_kqv",
        "attention.max_alibi_bias",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "expert_count",
        "expert_used_count",
        "expert_shared_count",
        "expert_feed_forward_length",
        "expert_shared_feed_forward_length",
        "expert_weights_scale",
        "expert_gating_func",
        "leading_dense_block_count",
        "nextn_predict_layers",
    ),
    (0,),
)


class Tensors(NamedTuple):
    """From the tensors: rows of the embedding, all names, divisors of RoPE by tensor name."""

    vocab_size: int
    names: Collection[str]
    divisors: Divisors


class _Own(NamedTuple):
    """The settings whose keys begin with the architecture's name, by the key without that prefix."""

    prefix: str
    values: dict[str, Any]


def arch_of(settings: dict[str, Value], tensors: Tensors) -> LlamaArch:
    """The architecture that settings describe; the vocabulary has as many entries as the embedding has rows.

    Raises FormatError, naming the key, where the model is not a dense Llama.
    """
    row = architecture_called(settings.get("general.architecture"))
    kind = settings.get("general.type", b"model")
    if kind != b"model":
        raise FormatError(f"general.type of a GGUF file must be 'model'; got {kind!r}")
    own = _own(settings, f"{row.name}.")
    heads, dim = _setting(own, "attention.head_count"), _setting(own, "embedding_length")
    fields: dict[str, Any] = _fields(own, row, tensors)
    arch = LlamaArch(
        dim=dim,
        n_layers=_setting(own, "block_count"),
        n_heads=heads,
        n_kv_heads=_setting(own, "attention.head_count_kv", heads),
        ffn_dim=_setting(own, "feed_forward_length"),
        vocab_size=tensors.vocab_size,
        norm_eps=_setting(own, "attention.layer_norm_rms_epsilon"),
        rope_theta=_setting(own, "rope.freq_base", 10_000.0),
        tied_embeddings=row.layout.name("output.weight") not in tensors.names,
        max_positions=_setting(own, "context_length", 4096),
        head_dim=_head_dim(own, dim // heads),
        **fields,
    )
    arch = _turned_in_part(own, arch, row)
    _check_sizes(own, arch)
    scaling = read_scaling(
        {key: _decimal(value) for key, value in own.values.items()}, tensors.divisors, arch, own.prefix
    )
    return arch.replace(rope_scaling=scaling)


def _own(settings: dict[str, Value], prefix: str) -> _Own:
    own = _Own(prefix, {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)})
    _check_plain(own)
    layers = _setting(own, "block_count")
    single = {key: _one_value(own, key, layers) for key in _A_LAYER if key in own.values}
    return own._replace(values=own.values | single)


def _fields(own: _Own, row: Architecture, tensors: Tensors) -> dict[str, Any]:
    """Fields that differ from Llama 2, restricted to those that the file's architecture may set."""
    fields = dict(row.always)
    for field, module in BIASES.items():
        if field in row.may:
            fields[field] = row.layout.name(f"layers.0.{module}.bias") in tensors.names
    if "window" in row.may:
        fields["window"] = own.values.get("attention.sliding_window") or None
    return fields


def _head_dim(own: _Own, default: int) -> int:
    key, value = (own.values.get(name, default) for name in _HEADS)
    if key != value:
        names = " and ".join(f"{own.prefix}{name}" for name in _HEADS)
        raise FormatError(f"{names} must be the same; got {_shown(key)} and {_shown(value)}")
    size: int = key
    return size


def _turned_in_part(own: _Own, arch: LlamaArch, row: Architecture) -> LlamaArch:
    turned = own.values.get("rope.dimension_count", arch.head_dim)
    if turned == arch.head_dim or "rotary_fraction" not in row.may:
        return arch
    return arch.replace(rotary_fraction=turned / arch.head_dim)


def _decimal(value: Any) -> Any:
    """The shortest decimal that rounds to a number of the file, which is stored as fp32."""
    return float(np.format_float_positional(np.float32(value))) if isinstance(value, float) else value


def _setting(own: _Own, key: str, default: Any = None) -> Any:
    value = own.values.get(key, default)
    if value is None:
        raise FormatError(f"a GGUF file of a Llama must have the setting {own.prefix}{key}; it has none")
    return _decimal(value)


def _one_value(own: _Own, key: str, n_layers: Any) -> Any:
    value = own.values[key]
    if not isinstance(value, np.ndarray):
        return value
    if len(value) != n_layers or len(set(value.tolist())) != 1:
        raise FormatError(f"{own.prefix}{key} must be one number, or the same for each of {n_layers} layers; it is not")
    return value[0].item()


def _check_plain(own: _Own) -> None:
    for key, value in own.values.items():
        if key in _USED or key in _NO_EFFECT:
            continue
        if key not in _PLAIN:
            raise FormatError(f"a GGUF file of a Llama must have settings that are known; {own.prefix}{key} is not")
        if not any(_is(value, plain) for plain in _PLAIN[key]):
            raise FormatError(f"{own.prefix}{key} must be {_shown(_PLAIN[key][0])}, as in Llama; got {_shown(value)}")


def _is(value: Value, plain: Any) -> bool:
    """Whether a value, or every element of a list, equals a plain value."""
    if isinstance(value, np.ndarray):
        return all(one == plain for one in value.tolist())
    return isinstance(value, bool) == isinstance(plain, bool) and value == plain


def _check_sizes(own: _Own, arch: LlamaArch) -> None:
    """Check sizes that are stored although they follow from others."""
    given = own.values
    for key, size in (("rope.dimension_count", arch.rotary_dim), ("embedding_length_out", arch.dim)):
        if given.get(key, size) not in (size, 0):
            raise FormatError(f"{own.prefix}{key} must be {size}; got {_shown(given[key])}")
    scale, window = given.get("attention.scale", 0.0), given.get("attention.sliding_window", 0)
    if not isinstance(scale, int | float) or (scale and not isclose(scale, 1 / sqrt(arch.head_dim), rel_tol=1e-6)):
        raise FormatError(
            f"{own.prefix}attention.scale must be that of the head size {arch.head_dim}; got {_shown(scale)}"
        )
    if not isinstance(window, int) or (arch.window is None and 0 < window < arch.max_positions):
        raise FormatError(f"{own.prefix}attention.sliding_window must be as long as the context; got {_shown(window)}")


def _shown(value: Any) -> str:
    return f"{value.decode('utf-8', 'replace') if isinstance(value, bytes) else value!r:.80}"
