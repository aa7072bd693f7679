"""Parameters: P = 2VD + L(2 D**2 + 2 D K E + 3 D F + 2 D) + D, counted matrix by matrix.

The same list of weights gives the parameter count, the bytes that decode streams, and the names
and shapes that checkpoints are checked against.
"""

from typing import NamedTuple

from llamalab.arch import LlamaArch
from llamalab.units import FLOAT_DTYPES, storage_bytes


class Weight(NamedTuple):
    """One parameter tensor of the model, under Meta's name; `count` is how often it occurs."""

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
    dim, layers, kv_dim, ffn_dim = arch.dim, arch.n_layers, arch.kv_dim, arch.ffn_dim
    head = () if arch.tied_embeddings else (Weight("output.weight", (arch.vocab_size, dim), 1),)
    return (
        Weight("tok_embeddings.weight", (arch.vocab_size, dim), 1),
        Weight("layers.*.attention_norm.weight", (dim,), layers),
        Weight("layers.*.attention.wq.weight", (dim, dim), layers),
        Weight("layers.*.attention.wk.weight", (kv_dim, dim), layers),
        Weight("layers.*.attention.wv.weight", (kv_dim, dim), layers),
        Weight("layers.*.attention.wo.weight", (dim, dim), layers),
        Weight("layers.*.ffn_norm.weight", (dim,), layers),
        Weight("layers.*.feed_forward.w1.weight", (ffn_dim, dim), layers),
        Weight("layers.*.feed_forward.w3.weight", (ffn_dim, dim), layers),
        Weight("layers.*.feed_forward.w2.weight", (dim, ffn_dim), layers),
        Weight("norm.weight", (dim,), 1),
        *head,
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
        parts[_part(weight.name)] += weight.parameters
    return parts


def stored_as(weight: Weight, dtype: str, weight_dtype: str) -> str:
    """The dtype that a tensor is stored in: what only products read in `weight_dtype`, all else in `dtype`.

    The embedding table is gathered from and a norm is a vector: quantisation leaves both as they were, in bf16 where
    `dtype` itself is no type to compute in. A tied head multiplies by the table, which then stays as it is too.

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


def component_bytes(arch: LlamaArch, dtype: str = "bf16") -> dict[str, int]:
    """Bytes by part of the model; they add up to weight_bytes."""
    parts = dict.fromkeys(components(arch), 0)
    for weight in weights(arch):
        parts[_part(weight.name)] += tensor_bytes(weight, dtype)
    return parts


def _part(name: str) -> str:
    if "norm" in name:
        return "norms"
    if ".attention." in name:
        return "attention"
    if ".feed_forward." in name:
        return "feed_forward"
    return "embedding" if name.startswith("tok_embeddings") else "output"
