"""The shape of a model of the Llama family (`LlamaArch`): sizes and what differs from Llama 2, checked once.

A field beyond the first ten has Llama 2's value as default: a family is a row of fields, never a branch on a name.
The calculators accept any LlamaArch; `runnable` states which of them the built-in model runs.

Belongs here: `fields` and `parts` (what must hold of sizes, stretched RoPE and experts), `files`, `meta_params` and
`hf_configs` (params.json and config.json as a shape), `runnable`. Does not belong here: models by name (presets);
batch, cache length and dtype (they are of a run); costs (analytic).
May import: errors, checks, files, startup.
"""

from collections.abc import Mapping

from llamalab.arch.fields import OF_LAYERS, ArchFields, check_fields
from llamalab.arch.parts import Experts, RopeScaling, as_tuples
from llamalab.startup.hints import TYPE_CHECKING, Any

ALWAYS_STORED = 10  # the fields of a Llama 2: in every record, also of older versions
ON_DISK = ("fused_on_disk", "gate_up_on_disk", "pairs_on_disk")  # fields of the layout in Hugging Face files alone


class LlamaArch(ArchFields):
    """A frozen, validated architecture, whose fields `fields.ArchFields` documents.

    >>> arch = LlamaArch(4096, 32, 32, 32, 11008, 32000)
    >>> arch.head_dim, arch.group_size
    (128, 1)
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker reads the fields of ArchFields

        def __new__(cls, *sizes: Any, **fields: Any) -> "LlamaArch":
            self = super().__new__(cls, *sizes, **fields)
            head_dim_given = self.head_dim is not None
            if not head_dim_given:
                self = self._replace(head_dim=_head_dim(self.dim, self.n_heads))
            check_fields(self, head_dim_given=head_dim_given)
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
