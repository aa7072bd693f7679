"""Parameters. Llama 2: P = 2VD + L(2 D**2 + 2 D K E + 3 D F + 2 D) + D, counted matrix by matrix.

Weights of other families (biases, per-head norms, experts) are further rows here, and nowhere else.

The same list of weights gives the parameter count, the bytes that decode streams, and the names
and shapes that checkpoints are checked against.
"""

from llamalab.arch import LlamaArch
from llamalab.arch.fields import ATTENTION_VECTORS
from llamalab.arch.parts import NORMS
from llamalab.startup.hints import NamedTuple
from llamalab.units import FLOAT_DTYPES, storage_bytes

SMALL_MODEL_BYTES = 2**30  # a model with fewer bytes of weights is measured in seconds


class Weight(NamedTuple):
    """One parameter tensor of the model, under Meta's name; `count` is its number of occurrences."""

    name: str
    shape: tuple[int, ...]
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs

    @property
    def parameters(self) -> int:
        """Elements of all occurrences together."""
        elements = self.count
        for size in self.shape:
            elements *= size
        return elements


def weights(arch: LlamaArch) -> tuple[Weight, ...]:
    """Every weight in the order of a forward pass; per-layer names carry a `*`.

    A tied model has no `output.weight`: it reuses the embedding.

    >>> from llamalab.presets import PRESETS
    >>> weights(PRESETS["70b"].arch)[3]
    Weight(name='layers.*.attention.wk.weight', shape=(1024, 8192), count=80)
    """
    dim, layers, norms = arch.dim, arch.n_layers, NORMS[arch.norm].vectors
    before, behind = norms if arch.pre_norms else (), norms if arch.post_norms else ()
    head = () if arch.tied_embeddings else (Weight("output.weight", (arch.vocab_size, dim), 1),)
    return (
        Weight("tok_embeddings.weight", (arch.vocab_size, dim), 1),
        *_norm("layers.*.attention_norm", dim, layers, before),
        *_attention_weights(arch),
        *_norm("layers.*.attention_post_norm", dim, layers, behind),
        *_norm("layers.*.ffn_norm", dim, layers, () if arch.shared_norm else before),
        *_dense_weights(arch),
        *_expert_weights(arch),
        *_norm("layers.*.ffn_post_norm", dim, layers, behind),
        *_norm("norm", dim, 1, norms),
        *head,
        *((Weight("output.bias", (arch.vocab_size,), 1),) if arch.head_bias else ()),
    )


def _product(name: str, out: int, inner: int, count: int, *, bias: bool = False) -> tuple[Weight, ...]:
    weight = Weight(name + ".weight", (out, inner), count)
    return (weight, Weight(name + ".bias", (out,), count)) if bias else (weight,)


def _norm(name: str, width: int, count: int, vectors: tuple[str, ...]) -> tuple[Weight, ...]:
    if len(vectors) == 1:  # the usual case without a loop, since searches count thousands of models
        return (Weight(f"{name}.{vectors[0]}", (width,), count),)
    return tuple(Weight(f"{name}.{vector}", (width,), count) for vector in vectors)


def head_norm_widths(arch: LlamaArch, query_dim: int, kv_dim: int) -> tuple[int, int]:
    """Elements of the weights of q_norm and k_norm for queries and keys of these widths; 0 where there are none."""
    if not arch.qk_norm or not NORMS[arch.norm].vectors:
        return 0, 0
    return (query_dim, kv_dim) if arch.wide_qk_norm else (arch.head_dim, arch.head_dim)


def _head_norm_weights(arch: LlamaArch) -> tuple[Weight, ...]:
    """Per-head norms, which have no biases, whatever the others have."""
    widths = zip("qk", head_norm_widths(arch, arch.query_dim, arch.kv_dim), strict=True)
    home = "layers.*.attention."
    return tuple(Weight(f"{home}{name}_norm.weight", (width,), arch.n_layers) for name, width in widths if width)


def _attention_weights(arch: LlamaArch) -> tuple[Weight, ...]:
    home, layers, dim = "layers.*.attention.", arch.n_layers, arch.dim
    return (
        *_product(home + "wq", arch.query_dim, dim, layers, bias=arch.qkv_bias),
        *_product(home + "wk", arch.kv_dim, dim, layers, bias=arch.qkv_bias),
        *_product(home + "wv", arch.kv_dim, dim, layers, bias=arch.qkv_bias),
        *(_head_norm_weights(arch) if arch.qk_norm else ()),
        *(
            Weight(home + name, (getattr(arch, size),), layers)
            for flag, (name, size) in ATTENTION_VECTORS.items()
            if getattr(arch, flag)
        ),
        *_product(home + "wo", dim, arch.query_dim, layers, bias=arch.o_bias),
    )


def _dense_weights(arch: LlamaArch) -> tuple[Weight, ...]:
    made = _ffn_weights("layers.*.feed_forward.", arch.dim, arch.ffn_dim, arch.dense_layers, bias=arch.ffn_bias)
    return made if arch.gated else tuple(weight for weight in made if ".w3." not in weight.name)


def _ffn_weights(home: str, dim: int, ffn_dim: int, count: int, *, bias: bool = False) -> tuple[Weight, ...]:
    if not count or not ffn_dim:
        return ()
    return (
        *_product(home + "w1", ffn_dim, dim, count, bias=bias),
        *_product(home + "w3", ffn_dim, dim, count, bias=bias),
        *_product(home + "w2", dim, ffn_dim, count, bias=bias),
    )


def _expert_weights(arch: LlamaArch) -> tuple[Weight, ...]:
    """The router, all experts as stored, and those that every token visits, as one of their common width."""
    experts, layers, home = arch.experts, arch.n_layers - arch.dense_layers, "layers.*.feed_forward."
    if experts is None or not layers:
        return ()
    gate = _product(home + "shared_gate", 1, arch.dim, layers) if experts.shared_gate else ()
    number = experts.n_experts
    return (
        *_product(home + "router", number, arch.dim, layers, bias=experts.biases),
        *((Weight(home + "router.correction", (number,), layers),) if experts.correction else ()),
        *_ffn_weights(home + "experts.*.", arch.dim, experts.ffn_dim, layers * number, bias=experts.biases),
        *_ffn_weights(home + "shared.", arch.dim, experts.shared_ffn_dim, layers),
        *gate,
    )


def parameter_count(arch: LlamaArch) -> int:
    """Parameters of the whole model.

    >>> from llamalab.presets import PRESETS
    >>> parameter_count(PRESETS["7b"].arch)
    6738415616
    """
    return sum(weight.parameters for weight in weights(arch))


def components(arch: LlamaArch) -> dict[str, int]:
    """Parameters by part of the model: embedding, attention, feed_forward, norms, output."""
    parts = dict.fromkeys(("embedding", "attention", "feed_forward", "norms", "output"), 0)
    for weight in weights(arch):
        parts[component_of(weight.name)] += weight.parameters
    return parts


def stored_as(weight: Weight, dtype: str, weight_dtype: str) -> str:
    """The stored dtype of a tensor: `weight_dtype` if only products read it, otherwise `dtype`.

    The embedding table is gathered from and a norm is a vector: quantisation leaves both unchanged, in bf16 where
    `dtype` is no dtype to compute in. A tied head multiplies by the table, which then stays unquantised too.

    >>> from llamalab.presets import PRESETS
    >>> [stored_as(weight, "fp16", "int4") for weight in weights(PRESETS["7b"].arch)[:3]]
    ['fp16', 'fp16', 'int4']
    """
    if len(weight.shape) > 1 and not weight.name.startswith("tok_embeddings"):
        return weight_dtype
    return dtype if dtype in FLOAT_DTYPES else "bf16"


def weight_bytes(arch: LlamaArch, dtype: str = "bf16") -> int:
    """Bytes of all weights with the matrices in one dtype: see stored_as.

    >>> from llamalab.presets import PRESETS
    >>> weight_bytes(PRESETS["7b"].arch), weight_bytes(PRESETS["7b"].arch, "int4")
    (13476831232, 3669450752)
    """
    return sum(tensor_bytes(weight, dtype) for weight in weights(arch))


def tensor_bytes(weight: Weight, dtype: str) -> int:
    """Bytes of all occurrences of a tensor in a model whose matrices are stored in `dtype`."""
    return weight.count * storage_bytes(weight.parameters // weight.count, stored_as(weight, dtype, dtype))


def component_of(name: str) -> str:
    """The part of the model of a tensor, one of those of `components`."""
    if "norm" in name:
        return "norms"
    if ".attention." in name:
        return "attention"
    if ".feed_forward." in name:
        return "feed_forward"
    return "embedding" if name.startswith("tok_embeddings") else "output"
