"""Quantised weights of the built-in model: their bytes, and the op table of a pass that reads them.

The layout of its kernels differs from that of files (units.storage_bytes): constants are in the dtype of activations,
and 4 bits have an offset beside each scale. From a number of rows on a weight is widened to the dtype of activations
first: products of one row, of a few rows by a kernel, and of a widened weight are classes of their own. The embedding
and a tied head are not quantised, and neither are matrices whose rows do not divide into groups
(units.group_in_row).
"""

from llamalab.analytic.op import Op
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.parallel import elements_on_rank, shard
from llamalab.analytic.params import Weight, weights
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.units import DTYPES, KeptWeights, group_in_row, storage_bytes

_CONSTANTS = {"int8": 1, "int4": 2, "q4_0": 2, "q8_0": 4}  # for each group; int8 in groups is two halves of 4 bits
FEW_ROWS, WIDENED_ROWS = (
    "few",
    "widened",
)  # modes of products of several rows: by the kernel, by a widened weight
_WHOLE_ROWS = 16  # that the kernel of halves takes at once; other matrices keep their codes whole


def kept_bytes(out: int, inner: int, dtype: str, kept: KeptWeights) -> int | None:
    """Bytes of a matrix of (out, inner) for activations in `dtype`; None where it stays in `dtype`.

    >>> kept_bytes(11008, 4096, "bf16", KeptWeights("int4")), kept_bytes(11008, 4096, "bf16", KeptWeights("int8"))
    (23953408, 45110784)
    """
    group = group_in_row(kept.storage, inner)
    if group is None:
        return None
    constants = constants_of_group(kept, out)
    codes = out * inner * DTYPES[kept.storage].bits // 8
    return codes + storage_bytes(out * (inner // group) * constants, dtype)


def constants_of_group(kept: KeptWeights, out: int = _WHOLE_ROWS) -> int:
    """Scales and offsets beside a group of codes, in a matrix of so many rows."""
    if kept.product == "streamed":
        return 1
    if kept.storage == "q8_0" and (out % _WHOLE_ROWS or kept.product == "widened"):
        return 2
    return _CONSTANTS[kept.storage]


def model_weight_bytes(arch: LlamaArch, dtype: str, kept: KeptWeights | None = None) -> int:
    """Bytes of all weights of the built-in model, as its tensors take them; kept None: all are in `dtype`.

    >>> from llamalab.presets import PRESETS
    >>> model_weight_bytes(PRESETS["7b"].arch, "bf16", KeptWeights("int4"))
    3772686336
    """
    return sum(weight.count * _tensor_bytes(weight, dtype, kept) for weight in weights(arch))


def _tensor_bytes(weight: Weight, dtype: str, kept: KeptWeights | None) -> int:
    plain = storage_bytes(weight.parameters // weight.count, dtype)
    if kept is None or len(weight.shape) != 2 or weight.name.startswith("tok_embeddings"):
        return plain
    stored = kept_bytes(*weight.shape, dtype, kept)
    return plain if stored is None else stored


def model_ops(arch: LlamaArch, shape: PassShape, kept: KeptWeights | None = None) -> tuple[Op, ...]:
    """The op table of a pass of the built-in model whose products read quantised weights."""
    ops = forward_ops(arch, shape)
    if kept is None:
        return ops
    shapes = shapes_of(arch, shape.tensor_parallel)
    return tuple(_kept_op(op, shapes, shape.dtype, kept) for op in ops)


def shapes_of(arch: LlamaArch, ranks: int = 1) -> dict[str, tuple[int, ...]]:
    """(out, in) of the matrices on one rank by the name of their product.

    >>> from llamalab.presets import PRESETS
    >>> made = shapes_of(PRESETS["70b"].arch, 8)
    >>> [made[f"layers.*.{name}"] for name in ("attention.wk", "feed_forward.w1", "feed_forward.w2")]
    [(128, 8192), (3584, 8192), (8192, 3584)]
    """
    part, found = shard(arch, ranks), dict[str, tuple[int, ...]]()
    for weight in weights(arch):
        if len(weight.shape) == 2:
            name, (out, inner) = weight.name.removesuffix(".weight"), weight.shape
            own = elements_on_rank(weight, arch, part)
            found[name] = (out, own // out) if name.endswith((".wo", ".w2")) else (own // inner, inner)
    return found


def _kept_op(op: Op, shapes: dict[str, tuple[int, ...]], dtype: str, kept: KeptWeights) -> Op:
    if op.kind != "gemm" or op.name not in shapes:
        return op
    out, inner = shapes[op.name]
    stored = kept_bytes(out, inner, dtype, kept)
    if stored is None:
        return op
    wide = storage_bytes(out * inner, dtype)
    rows, bias = op.flops_full // (2 * out * inner), op.weight_bytes - wide
    narrow = op._replace(weight_bytes=stored + bias)
    if kept.kernel_rows is None or rows <= kept.kernel_rows:
        return narrow if rows == 1 else narrow._replace(mode=FEW_ROWS)
    return narrow._replace(mode=WIDENED_ROWS, read_bytes=op.read_bytes + wide, written_bytes=op.written_bytes + wide)
