"""The shape of a model of the Llama family (`LlamaArch`): sizes and what differs from Llama 2, checked once.

A field beyond the first ten has a default that is Llama 2: a family is a row of fields, never a branch on a name.
The calculators accept any LlamaArch; `runnable` states which of them the built-in model runs.

Belongs here: `fields` and `parts` (what must hold of sizes, stretched RoPE and experts), `files`, `meta_params` and
`hf_configs` (params.json and config.json as a shape), `runnable`. Does not belong here: models by name (presets);
batch, cache length and dtype (they are of a run); costs (analytic).
May import: errors, checks, files, startup.
"""

from collections.abc import Mapping

from llamalab.arch.fields import OF_LAYERS, ArchFields, check_fields
from llamalab.arch.parts import Experts, RopeScaling, as_tuples
from llamalab.startup.hints import Any

ALWAYS_STORED = 10  # the fields of a Llama 2: in every record, also of older versions
ON_DISK = ("fused_on_disk", "gate_up_on_disk", "pairs_on_disk")  # fields of the layout in Hugging Face files alone


class LlamaArch(ArchFields):
    """A frozen, validated architecture.

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
        check_fields(self, head_dim_given=head_dim is not None)
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """Arguments for copies and pickles: by name, through validation."""
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
    def dense_layers(self) -> int:
        """Layers with a plain feed-forward."""
        return self.n_layers if self.experts is None else len(self.experts.dense_layers)

    @property
    def rotated_layers(self) -> int:
        """Layers whose queries and keys RoPE turns."""
        return self.n_layers - len(self.unrotated_layers)

    def window_of(self, layer: int) -> int | None:
        """Keys visible to a query of this layer, its own included; None for all before it."""
        return None if layer in self.full_layers else self.window

    @property
    def windows(self) -> tuple[tuple[int | None, int], ...]:
        """Each window and the number of layers that have it; None for layers without a window.

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

        A head_dim equal to dim / n_heads is derived anew, and layer numbers beyond a smaller depth are dropped.
        """
        fields = self._asdict() | changes
        if "head_dim" not in changes and self.head_dim == _head_dim(self.dim, self.n_heads):
            fields["head_dim"] = None
        if type(fields["n_layers"]) is int and fields["n_layers"] < self.n_layers:
            left = fields["n_layers"]
            for name in OF_LAYERS:
                fields[name] = tuple(layer for layer in fields[name] if layer < left)
            if fields["experts"] is not None:
                fields["experts"] = fields["experts"].of_first(left)
        return LlamaArch(**fields)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the fields of every record, and those that differ from Llama 2.

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
        """The architecture from `as_dict` data; absent fields are those of Llama 2.

        Raises TypeError for unknown fields, InputError for invalid values.

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
    """The quotient, or 0 where it is no whole number, which the checks then report."""
    whole = type(dim) is int and type(n_heads) is int and n_heads > 0
    return dim // n_heads if whole and dim % n_heads == 0 else 0


_LLAMA_2 = LlamaArch(2, 1, 1, 1, 1, 1)._asdict()  # the defaults, beside sizes that are always stored


def attention_kind(n_heads: int, n_kv_heads: int) -> str:
    """MHA, GQA-k (k KV heads) or MQA.

    >>> attention_kind(32, 8)
    'GQA-8'
    """
    if n_kv_heads == n_heads:
        return "MHA"
    return "MQA" if n_kv_heads == 1 else f"GQA-{n_kv_heads}"
