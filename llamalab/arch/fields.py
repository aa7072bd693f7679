"""The fields of an architecture and their validity: sizes, heads, and combinations.

llamalab.arch documents every field and derives the rest; here each is typed, bounded and checked once.
"""

from operator import attrgetter

from llamalab.arch.parts import ACTIVATIONS, NORMS, Experts, RopeScaling, check_number, check_whole
from llamalab.errors import InputError
from llamalab.startup.hints import NamedTuple

MAX_LAYERS = 1_000
MAX_SIZE = 10_000_000  # larger than any width or vocabulary; bounds allocations after a typing error
_SIZES = tuple(
    (name, f"{name} of LlamaArch", MAX_LAYERS if name == "n_layers" else MAX_SIZE)
    for name in ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "vocab_size", "max_positions")
)
ARCH_FLAGS = (  # fields that are true or false
    "tied_embeddings",
    "qkv_bias",
    "o_bias",
    "ffn_bias",
    "qk_norm",
    "fused_on_disk",
    "post_norms",
    "norm_plus_one",
    "scaled_streams",
    "wide_qk_norm",
    "norms_after_rope",
    "pre_norms",
    "shared_norm",
    "gated",
    "head_bias",
    "normed_head",
    "alibi",
    "attention_sinks",
    "gate_up_on_disk",
    "pairs_on_disk",
)
_flags_of = attrgetter(*ARCH_FLAGS)
OF_LAYERS = ("full_layers", "unrotated_layers")  # fields that name layers of the model


class ArchFields(NamedTuple):
    """The fields of llamalab.arch.LlamaArch, which documents them, in the order of records."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    tied_embeddings: bool
    max_positions: int
    head_dim: int
    rope_scaling: RopeScaling | None
    rotary_fraction: float
    qkv_bias: bool
    o_bias: bool
    ffn_bias: bool
    qk_norm: bool
    window: int | None
    full_layers: tuple[int, ...]
    fused_on_disk: bool
    experts: Experts | None
    activation: str
    post_norms: bool
    norm_plus_one: bool
    scaled_streams: bool
    attention_softcap: float | None
    logits_softcap: float | None
    wide_qk_norm: bool
    norms_after_rope: bool
    norm: str
    pre_norms: bool
    shared_norm: bool
    gated: bool
    head_bias: bool
    normed_head: bool
    unrotated_layers: tuple[int, ...]
    alibi: bool
    attention_sinks: bool
    gate_up_on_disk: bool
    pairs_on_disk: bool

    @property
    def rotary_dim(self) -> int:
        """Elements of each head that RoPE rotates."""
        return int(self.head_dim * self.rotary_fraction)


def valid_kv_heads(n_heads: int) -> list[int]:
    """Counts of KV heads that divide the query heads, MHA first, MQA last.

    >>> valid_kv_heads(8)
    [8, 4, 2, 1]
    """
    return [heads for heads in range(n_heads, 0, -1) if n_heads % heads == 0]


def check_fields(arch: ArchFields, *, head_dim_given: bool) -> None:
    """Raise InputError for the first invalid field.

    `head_dim_given` is whether the caller set head_dim; else errors name dim and n_heads.
    """
    _check_sizes(arch)
    _check_heads(arch, given=head_dim_given)
    _check_differences(arch)


def _check_sizes(arch: ArchFields) -> None:
    for name, what, most in _SIZES:
        check_whole(what, getattr(arch, name), most)
    check_number("norm_eps of LlamaArch", arch.norm_eps)
    check_number("rope_theta of LlamaArch", arch.rope_theta)
    for name in ("attention_softcap", "logits_softcap"):
        if getattr(arch, name) is not None:
            check_number(f"{name} of LlamaArch", getattr(arch, name))
    if set(map(type, _flags_of(arch))) != {bool}:
        name = next(name for name in ARCH_FLAGS if type(getattr(arch, name)) is not bool)
        raise InputError(f"{name} of LlamaArch must be true or false; got {getattr(arch, name)!r}")


def _check_heads(arch: ArchFields, *, given: bool) -> None:
    if given:
        check_whole("head_dim of LlamaArch", arch.head_dim, MAX_SIZE)
        if arch.head_dim % 2:
            raise InputError(f"head_dim of LlamaArch must be even; got {arch.head_dim}")
    elif arch.dim % arch.n_heads or arch.head_dim % 2:
        raise InputError(f"dim of LlamaArch must be n_heads={arch.n_heads} times an even head size; got {arch.dim}")
    if arch.n_heads % arch.n_kv_heads:
        raise InputError(
            f"n_kv_heads of LlamaArch must divide n_heads={arch.n_heads}; got {arch.n_kv_heads}; "
            f"try one of {', '.join(map(str, valid_kv_heads(arch.n_heads)))}"
        )
    check_number("rotary_fraction of LlamaArch", arch.rotary_fraction)
    if arch.rotary_fraction > 1 or arch.rotary_dim % 2 or not arch.rotary_dim:
        raise InputError(
            f"rotary_fraction of LlamaArch must turn an even part of head_dim={arch.head_dim}; "
            f"got {arch.rotary_fraction!r}"
        )


def _check_differences(arch: ArchFields) -> None:
    if arch.rope_scaling is not None:
        arch.rope_scaling.check(arch.rotary_dim // 2)
    if arch.window is not None:
        check_whole("window of LlamaArch", arch.window, MAX_SIZE)
    if arch.full_layers and arch.window is None:
        raise InputError(f"full_layers of LlamaArch must go with a window; got {arch.full_layers} and none")
    for name in OF_LAYERS:
        _check_layers(f"{name} of LlamaArch", getattr(arch, name), arch.n_layers)
    if arch.experts is not None:
        arch.experts.check()
        _check_layers("dense_layers of Experts", arch.experts.dense_layers, arch.n_layers)
    for name, words in (("activation", ACTIVATIONS), ("norm", tuple(NORMS))):
        if getattr(arch, name) not in words:
            raise InputError(f"{name} of LlamaArch must be one of {', '.join(words)}; got {getattr(arch, name)!r}")
    _check_norms(arch)


def _check_norms(arch: ArchFields) -> None:
    for name, needed in (
        ("wide_qk_norm", "qk_norm"),
        ("norms_after_rope", "qk_norm"),
        ("shared_norm", "pre_norms"),
    ):
        if getattr(arch, name) and not getattr(arch, needed):
            raise InputError(f"{name} of LlamaArch must go with {needed}; got it without")
    if not arch.pre_norms and not arch.post_norms:
        raise InputError("pre_norms of LlamaArch must be true where post_norms is false; got neither")


def _check_layers(what: str, layers: tuple[int, ...], n_layers: int) -> None:
    fit = isinstance(layers, tuple) and all(type(layer) is int and 0 <= layer < n_layers for layer in layers)
    if not fit or list(layers) != sorted(set(layers)):
        raise InputError(f"{what} must be layers from 0 to {n_layers - 1}, rising; got {layers!r}")
