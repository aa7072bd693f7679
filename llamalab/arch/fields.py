"""The fields of an architecture and their validity: sizes, heads, and combinations.

A field is a row of `ArchFields`, and nothing else: the constructor, records and checks of flags follow from it.
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
OF_LAYERS = ("full_layers", "unrotated_layers")  # fields that name layers of the model
# Vectors of weights in every layer's attention, by the flag that brings them: name, and the field of their length.
ATTENTION_VECTORS = {"attention_sinks": ("sinks", "n_heads")}


class ArchFields(NamedTuple):
    """The fields of llamalab.arch.LlamaArch in the order of records; defaults are those of Llama 2.

    max_positions      context that the weights were trained for; it bounds no calculation
    head_dim           E, size of one head; None stands for dim / n_heads
    rope_scaling       how RoPE was scaled beyond `original_positions`, None where it was not
    rotary_fraction    part of each head that RoPE rotates; the rest is unchanged
    qkv_bias, o_bias   biases of wq, wk and wv, and of wo
    ffn_bias           biases of w1, w2 and w3
    qk_norm            an RMSNorm over each head's E of the queries and of the keys, before RoPE
    window             keys visible to a query, its own included, None for all before it
    full_layers        layers without the window, where there is one
    fused_on_disk      Hugging Face files hold wq, wk, wv as one tensor, and w1, w3 as one
    experts            a mixture of experts in place of the feed-forward, None for none
    activation         of the gate: silu, gelu or gelu_tanh
    post_norms         a norm behind attention and feed-forward too (Gemma 2)
    norm_plus_one      norms multiply by 1 + w (Gemma)
    scaled_streams     constants multiply the embedding, residuals or logits (Gemma, Granite)
    attention_softcap, logits_softcap    x becomes cap * tanh(x / cap), None for no cap (Gemma 2)
    wide_qk_norm       the norms of queries and keys have a weight for each head, not one of E for all (OLMo 2, Cohere)
    norms_after_rope   the norms of queries and keys come after RoPE (Hunyuan)
    norm               rms or layer, or one of parts.NORMS with fewer weights
    pre_norms          a norm before attention and feed-forward; without it those behind them are all (OLMo 2)
    shared_norm        attention and feed-forward read one norm and stand side by side (Cohere, Phi 2)
    gated              the feed-forward has a gate; without it w1 goes up and w3 is not there (StarCoder 2)
    head_bias          a bias of the head
    normed_head        rows of the head are scaled to length 1 once it is read (Baichuan 2)
    unrotated_layers   layers without RoPE (SmolLM3)
    alibi              a slope for each head times the distance is taken off the scores (Baichuan 13B)
    attention_sinks    a logit for each head beside the scores (gpt-oss)
    gate_up_on_disk    Hugging Face files hold w1, w3 as one tensor, wq, wk, wv apart (GLM)
    pairs_on_disk      Hugging Face files hold the rows that RoPE turns in neighbouring pairs, as Meta's do (GLM, Ernie)
    """

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    vocab_size: int
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tied_embeddings: bool = False
    max_positions: int = 4096
    head_dim: int = None  # type: ignore[assignment]  # None stands for dim / n_heads
    rope_scaling: RopeScaling | None = None
    rotary_fraction: float = 1.0
    qkv_bias: bool = False
    o_bias: bool = False
    ffn_bias: bool = False
    qk_norm: bool = False
    window: int | None = None
    full_layers: tuple[int, ...] = ()
    fused_on_disk: bool = False
    experts: Experts | None = None
    activation: str = "silu"
    post_norms: bool = False
    norm_plus_one: bool = False
    scaled_streams: bool = False
    attention_softcap: float | None = None
    logits_softcap: float | None = None
    wide_qk_norm: bool = False
    norms_after_rope: bool = False
    norm: str = "rms"
    pre_norms: bool = True
    shared_norm: bool = False
    gated: bool = True
    head_bias: bool = False
    normed_head: bool = False
    unrotated_layers: tuple[int, ...] = ()
    alibi: bool = False
    attention_sinks: bool = False
    gate_up_on_disk: bool = False
    pairs_on_disk: bool = False

    @property
    def rotary_dim(self) -> int:
        """Elements of each head that RoPE rotates."""
        return int(self.head_dim * self.rotary_fraction)


ARCH_FLAGS = tuple(name for name, value in ArchFields._field_defaults.items() if type(value) is bool)
_flags_of = attrgetter(*ARCH_FLAGS)


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
