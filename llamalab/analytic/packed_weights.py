"""Additional rows for packed weights: a head that is not packed, and weights that are unpacked before a product.

Formats of 4 and 8 bits leave the output head in 16 bits, GGML's excepted. Where a stack has no kernel that
multiplies many rows by packed weights, it writes them out first: one operation more per matrix, which reads
them packed and writes them in the dtype of the activations, and a product that reads what was written.
"""

from llamalab.analytic.op import Op, placed
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.units import storage_bytes


def unpacked_ops(
    ops: tuple[Op, ...], *, rows: int, dtype: str, unpack_rows: int | None, head_bytes: int | None
) -> tuple[Op, ...]:
    """The table of a pass of so many rows as a stack runs it.

    The head is stored in `head_bytes`, where it has a type of its own; from `unpack_rows` rows on, weights are written
    out in `dtype` before each product.
    """
    unpacks = unpack_rows is not None and rows >= unpack_rows
    found: list[Op] = []
    for op in ops:
        if op.kind == "gemm" and op.part == "head" and head_bytes is not None:
            found.append(op._replace(weight_bytes=head_bytes))
        elif op.kind == "gemm" and op.part != "head" and unpacks:
            written = storage_bytes(op.flops_full // (2 * rows), dtype)
            unpack = Op(
                f"{op.name}.unpack",
                "elementwise",
                op.count,
                weight_bytes=op.weight_bytes,
                written_bytes=written,
                roof="copy",
            )
            found += placed(op.part, op.step, unpack)
            found.append(op._replace(weight_bytes=written))
        else:
            found.append(op)
    return tuple(found)


def head_bytes(arch: LlamaArch, dtype: str | None, tensor_parallel: int) -> int | None:
    """Bytes of the output head on one rank in a type of its own, None where it has none."""
    return (
        None
        if dtype is None
        else storage_bytes(arch.vocab_size // whole(tensor_parallel, "tensor_parallel") * arch.dim, dtype)
    )
