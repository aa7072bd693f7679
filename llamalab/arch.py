"""The shape of a model of the Llama family: sizes and what differs from Llama 2, checked once, all else derived.

A field beyond the first ten has a default that is Llama 2: a family is a row of fields, never a branch on a name.
What the calculators answer for is any LlamaArch; which of them the built-in model can run is another question
(llamalab.model.refusal).

FFN width as Meta computes it (llama/model.py, FeedForward): two truncations, then rounded up
to `multiple_of`. Batch, cache length and dtype belong to a run, not to the architecture.
"""

from collections.abc import Mapping
from operator import attrgetter

from llamalab.arch_parts import ACTIVATIONS, NORMS, Experts, RopeScaling, as_tuples, check_number, check_whole
from llamalab.checks import whole
from llamalab.errors import InputError
from llamalab.hints import Any, NamedTuple

MAX_LAYERS = 1_000
MAX_SIZE = 10_000_000  # no width or vocabulary is larger; a typo must not allocate terabytes
ALWAYS_STORED = 10  # the fields of a Llama 2: in every record, also of older versions
_SIZES = tuple(
    (name, f"{name} of LlamaArch", MAX_LAYERS if name == "n_layers" else MAX_SIZE)
    for name in ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "vocab_size", "max_positions")
)
_FLAGS = (
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
_flags_of = attrgetter(*_FLAGS)
ON_DISK = ("fused_on_disk", "gate_up_on_disk", "pairs_on_disk")  # fields that tell of Hugging Face files alone
_OF_LAYERS = ("full_layers", "unrotated_layers")


class _Fields(NamedTuple):
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


class LlamaArch(_Fields):
    """A frozen, validated architecture.

    max_positions      context that the weights were trained for; it bounds no calculation
    head_dim           E, size of one head; None stands for dim / n_heads
    rope_scaling       how RoPE was stretched beyond `original_positions`, None where it was not
    rotary_fraction    part of each head that is turned; the rest stays as it is
    qkv_bias, o_bias   biases of wq, wk and wv, and of wo
    ffn_bias           biases of w1, w2 and w3
    qk_norm            an RMSNorm over each head's E of the queries and of the keys, before RoPE
    window             keys that a query sees, its own included, None for all that precede it
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
    norm               rms or layer, or one of arch_parts.NORMS with fewer weights
    pre_norms          a norm before attention and feed-forward; without it those behind them are all (OLMo 2)
    shared_norm        attention and feed-forward read one norm and stand side by side (Cohere, Phi 2)
    gated              the feed-forward has a gate; without it w1 goes up and w3 is not there (StarCoder 2)
    head_bias          a bias of the head
    normed_head        rows of the head are scaled to length 1 once it is read (Baichuan 2)
    unrotated_layers   layers without RoPE (SmolLM3)
    alibi              a slope for each head times the distance is taken off the scores (Baichuan 13B)
    attention_sinks    a logit for each head stands beside the scores (gpt-oss)
    gate_up_on_disk    Hugging Face files hold w1, w3 as one tensor, wq, wk, wv apart (GLM)
    pairs_on_disk      Hugging Face files hold the rows that RoPE turns in neighbouring pairs, as Meta's do (GLM, Ernie)

    >>> arch = LlamaArch(4096, 32, 32, 32, 11008, 32000)
    >>> arch.head_dim, arch.group_size
    (128, 1)
    """

    __slots__ = ()

    def __new__(
        cls,
        dim: int,
        n_layers: int,
        n_heads: int,
        n_kv_heads: int,
        ffn_dim: int,
        vocab_size: int,
        norm_eps: float = 1e-5,
        rope_theta: float = 10_000.0,
        *,
        tied_embeddings: bool = False,
        max_positions: int = 4096,
        head_dim: int | None = None,
        rope_scaling: RopeScaling | None = None,
        rotary_fraction: float = 1.0,
        qkv_bias: bool = False,
        o_bias: bool = False,
        ffn_bias: bool = False,
        qk_norm: bool = False,
        window: int | None = None,
        full_layers: tuple[int, ...] = (),
        fused_on_disk: bool = False,
        experts: Experts | None = None,
        activation: str = "silu",
        post_norms: bool = False,
        norm_plus_one: bool = False,
        scaled_streams: bool = False,
        attention_softcap: float | None = None,
        logits_softcap: float | None = None,
        wide_qk_norm: bool = False,
        norms_after_rope: bool = False,
        norm: str = "rms",
        pre_norms: bool = True,
        shared_norm: bool = False,
        gated: bool = True,
        head_bias: bool = False,
        normed_head: bool = False,
        unrotated_layers: tuple[int, ...] = (),
        alibi: bool = False,
        attention_sinks: bool = False,
        gate_up_on_disk: bool = False,
        pairs_on_disk: bool = False,
    ) -> "LlamaArch":
        self = super().__new__(
            cls, dim, n_layers, n_heads, n_kv_heads, ffn_dim, vocab_size, norm_eps, rope_theta, tied_embeddings,
            max_positions, _head_dim(dim, n_heads) if head_dim is None else head_dim, rope_scaling, rotary_fraction,
            qkv_bias, o_bias, ffn_bias, qk_norm, window, full_layers, fused_on_disk, experts, activation, post_norms,
            norm_plus_one, scaled_streams, attention_softcap, logits_softcap, wide_qk_norm, norms_after_rope,
            norm, pre_norms, shared_norm, gated, head_bias, normed_head, unrotated_layers, alibi, attention_sinks,
            gate_up_on_disk, pairs_on_disk,
        )  # fmt: skip
        self._check_sizes()
        self._check_heads(given=head_dim is not None)
        self._check_differences()
        return self

    def _check_sizes(self) -> None:
        for name, what, most in _SIZES:
            check_whole(what, getattr(self, name), most)
        check_number("norm_eps of LlamaArch", self.norm_eps)
        check_number("rope_theta of LlamaArch", self.rope_theta)
        for name in ("attention_softcap", "logits_softcap"):
            if getattr(self, name) is not None:
                check_number(f"{name} of LlamaArch", getattr(self, name))
        if set(map(type, _flags_of(self))) != {bool}:
            name = next(name for name in _FLAGS if type(getattr(self, name)) is not bool)
            raise InputError(f"{name} of LlamaArch must be true or false; got {getattr(self, name)!r}")

    def _check_heads(self, *, given: bool) -> None:
        if given:
            check_whole("head_dim of LlamaArch", self.head_dim, MAX_SIZE)
            if self.head_dim % 2:
                raise InputError(f"head_dim of LlamaArch must be even; got {self.head_dim}")
        elif self.dim % self.n_heads or self.head_dim % 2:
            raise InputError(f"dim of LlamaArch must be n_heads={self.n_heads} times an even head size; got {self.dim}")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"n_kv_heads of LlamaArch must divide n_heads={self.n_heads}; got {self.n_kv_heads}; "
                f"try one of {', '.join(map(str, valid_kv_heads(self.n_heads)))}"
            )
        check_number("rotary_fraction of LlamaArch", self.rotary_fraction)
        if self.rotary_fraction > 1 or self.rotary_dim % 2 or not self.rotary_dim:
            raise InputError(
                f"rotary_fraction of LlamaArch must turn an even part of head_dim={self.head_dim}; "
                f"got {self.rotary_fraction!r}"
            )

    def _check_differences(self) -> None:
        if self.rope_scaling is not None:
            self.rope_scaling.check(self.rotary_dim // 2)
        if self.window is not None:
            check_whole("window of LlamaArch", self.window, MAX_SIZE)
        if self.full_layers and self.window is None:
            raise InputError(f"full_layers of LlamaArch must go with a window; got {self.full_layers} and none")
        for name in _OF_LAYERS:
            _check_layers(f"{name} of LlamaArch", getattr(self, name), self.n_layers)
        if self.experts is not None:
            self.experts.check()
            _check_layers("dense_layers of Experts", self.experts.dense_layers, self.n_layers)
        for name, words in (("activation", ACTIVATIONS), ("norm", tuple(NORMS))):
            if getattr(self, name) not in words:
                raise InputError(f"{name} of LlamaArch must be one of {', '.join(words)}; got {getattr(self, name)!r}")
        self._check_norms()

    def _check_norms(self) -> None:
        for name, needed in (
            ("wide_qk_norm", "qk_norm"),
            ("norms_after_rope", "qk_norm"),
            ("shared_norm", "pre_norms"),
        ):
            if getattr(self, name) and not getattr(self, needed):
                raise InputError(f"{name} of LlamaArch must go with {needed}; got it without")
        if not self.pre_norms and not self.post_norms:
            raise InputError("pre_norms of LlamaArch must be true where post_norms is false; got neither")

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """How copies and pickles are made: by name, through validation."""
        return (), self._asdict()

    @property
    def group_size(self) -> int:
        """G: query heads that share one KV head."""
        return self.n_heads // self.n_kv_heads

    @property
    def query_dim(self) -> int:
        """Width of the queries of one token: H * E."""
        return self.n_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of the key (and of the value) of one token: K * E."""
        return self.n_kv_heads * self.head_dim

    @property
    def rotary_dim(self) -> int:
        """Elements of each head that RoPE turns."""
        return int(self.head_dim * self.rotary_fraction)

    @property
    def dense_layers(self) -> int:
        """Layers with a plain feed-forward."""
        return self.n_layers if self.experts is None else len(self.experts.dense_layers)

    @property
    def rotated_layers(self) -> int:
        """Layers whose queries and keys RoPE turns."""
        return self.n_layers - len(self.unrotated_layers)

    def window_of(self, layer: int) -> int | None:
        """Keys that a query of this layer sees, its own included; None for all that precede it."""
        return None if layer in self.full_layers else self.window

    @property
    def windows(self) -> tuple[tuple[int | None, int], ...]:
        """Each window and the number of layers that have it; None for layers that see everything.

        >>> LlamaArch(64, 5, 4, 4, 96, 100, window=8, full_layers=(1, 3)).windows
        ((None, 2), (8, 3))
        """
        full = self.n_layers if self.window is None else len(self.full_layers)
        groups = ((None, full), (self.window, self.n_layers - full))
        return tuple(group for group in groups if group[1])

    @property
    def beyond_llama_2(self) -> tuple[str, ...]:
        """The fields in which the architecture differs from any Llama 2.

        >>> LlamaArch(64, 5, 4, 4, 96, 100, qk_norm=True).beyond_llama_2
        ('qk_norm',)
        """
        return tuple(name for name in self.as_dict() if name not in self._fields[:ALWAYS_STORED])

    def replace(self, **changes: Any) -> "LlamaArch":
        """A copy with some fields changed, validated like a new one.

        A head_dim that was dim / n_heads stays so, and what is said of layers stays with those that are left.
        """
        fields = self._asdict() | changes
        if "head_dim" not in changes and self.head_dim == _head_dim(self.dim, self.n_heads):
            fields["head_dim"] = None
        if type(fields["n_layers"]) is int and fields["n_layers"] < self.n_layers:
            left = fields["n_layers"]
            for name in _OF_LAYERS:
                fields[name] = tuple(layer for layer in fields[name] if layer < left)
            if fields["experts"] is not None:
                fields["experts"] = fields["experts"].of_first(left)
        return LlamaArch(**fields)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what differs from Llama 2 only, beside what every record has.

        >>> LlamaArch(64, 5, 4, 4, 96, 100, qk_norm=True).as_dict().get("qk_norm")
        True
        >>> "qk_norm" in LlamaArch(64, 5, 4, 4, 96, 100).as_dict()
        False
        """
        plain = _LLAMA_2 | {"head_dim": _head_dim(self.dim, self.n_heads)}
        return {
            name: value.as_dict() if isinstance(value, RopeScaling | Experts) else value
            for place, (name, value) in enumerate(self._asdict().items())
            if place < ALWAYS_STORED or value != plain[name]
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LlamaArch":
        """The architecture that `as_dict` was made of; fields that are not there are those of Llama 2.

        Raises TypeError for fields that no architecture has, InputError for values that cannot be.

        >>> arch = LlamaArch(64, 5, 4, 4, 96, 100, window=8, full_layers=(1, 3))
        >>> LlamaArch.from_dict(arch.as_dict()) == arch
        True
        """
        fields = as_tuples(data)
        for name, kind in (("rope_scaling", RopeScaling), ("experts", Experts)):
            if fields.get(name) is not None:
                fields[name] = kind(**as_tuples(fields[name]))
        return cls(**fields)


def _head_dim(dim: int, n_heads: int) -> int:
    """The quotient, or 0 where that is no whole number: what is wrong with the two is said by the checks."""
    whole = type(dim) is int and type(n_heads) is int and n_heads > 0
    return dim // n_heads if whole and dim % n_heads == 0 else 0


def _check_layers(what: str, layers: tuple[int, ...], n_layers: int) -> None:
    fit = isinstance(layers, tuple) and all(type(layer) is int and 0 <= layer < n_layers for layer in layers)
    if not fit or list(layers) != sorted(set(layers)):
        raise InputError(f"{what} must be layers from 0 to {n_layers - 1}, rising; got {layers!r}")


_LLAMA_2 = LlamaArch(2, 1, 1, 1, 1, 1)._asdict()  # the defaults, beside sizes that are always stored


def valid_kv_heads(n_heads: int) -> list[int]:
    """Counts of KV heads that divide the query heads, MHA first, MQA last.

    >>> valid_kv_heads(8)
    [8, 4, 2, 1]
    """
    return [heads for heads in range(n_heads, 0, -1) if n_heads % heads == 0]


def attention_kind(n_heads: int, n_kv_heads: int) -> str:
    """MHA, GQA-k (k KV heads) or MQA.

    >>> attention_kind(32, 8)
    'GQA-8'
    """
    if n_kv_heads == n_heads:
        return "MHA"
    return "MQA" if n_kv_heads == 1 else f"GQA-{n_kv_heads}"


def meta_ffn_dim(dim: int, multiple_of: int, multiplier: float | None = None) -> int:
    """FFN width from Meta's `params.json` fields (llama/model.py, class FeedForward).

    >>> meta_ffn_dim(4096, 256), meta_ffn_dim(8192, 4096, 1.3)
    (11008, 28672)
    """
    dim, multiple_of = whole(dim, "dim", most=MAX_SIZE), whole(multiple_of, "multiple_of", most=MAX_SIZE)
    hidden = int(2 * (4 * dim) / 3)
    if multiplier is not None:
        if isinstance(multiplier, bool) or not isinstance(multiplier, int | float) or not 0 < multiplier < MAX_SIZE:
            raise InputError(f"ffn_dim_multiplier must be a positive number; got {multiplier!r}")
        hidden = int(multiplier * hidden)
    return -(-hidden // multiple_of) * multiple_of


def from_meta_params(params: dict[str, Any]) -> LlamaArch:
    """Read Meta's `params.json`; its vocab_size of -1 stands for the tokenizer's 32,000.

    `use_scaled_rope` is Llama 3.1's: its constants stand in code, not in the file (meta-llama/llama-models,
    models/llama3/model.py, apply_scaling); later files may name factor and high_freq_factor.
    """
    vocab_size, scaling = params.get("vocab_size", -1), None
    if params.get("use_scaled_rope"):
        scaling = RopeScaling(
            "llama3",
            factor=_given(params, "rope_scaling_factor", 8.0),
            original_positions=8192,
            high_freq_factor=_given(params, "rope_high_freq_factor", 4.0),
        )
    return LlamaArch(
        dim=params["dim"],
        n_layers=params["n_layers"],
        n_heads=params["n_heads"],
        n_kv_heads=_given(params, "n_kv_heads", params["n_heads"]),
        ffn_dim=meta_ffn_dim(params["dim"], params["multiple_of"], params.get("ffn_dim_multiplier")),
        vocab_size=32_000 if vocab_size == -1 else vocab_size,
        norm_eps=params["norm_eps"],
        rope_theta=params.get("rope_theta", 10_000.0),
        max_positions=4096 if scaling is None else 131_072,
        rope_scaling=scaling,
    )


def _given(data: dict[str, Any], key: str, default: Any) -> Any:
    """The value of a key, or the default where it is absent or null; a 0 stays a 0 and is refused."""
    value = data.get(key)
    return default if value is None else value
