"""What packed weights add to the op table: a head that is not packed, and weights that are unpacked before a product.

Formats of 4 and 8 bits leave the output head in 16 bits, GGML's excepted. Where a stack has no kernel that
multiplies many rows by packed weights, it writes them out first: one operation more per matrix, which reads
them packed and writes them in the dtype of the activations, and a product that reads what was written.
"""

from typing import TYPE_CHECKING

from llamalab.analytic.op import Op, placed
from llamalab.arch import LlamaArch
from llamalab.units import storage_bytes

if TYPE_CHECKING:
    from llamalab.analytic.forecast import Workload


def unpacked_ops(ops: tuple[Op, ...], arch: LlamaArch, work: "Workload", new_tokens: int) -> tuple[Op, ...]:
    """The table as a run has it: with its own type of the head, and with weights unpacked from so many rows on."""
    if work.head_dtype is None and work.unpack_rows is None:
        return ops
    rows = new_tokens * work.batch
    first = work.unpack_rows is not None and rows >= work.unpack_rows
    found: list[Op] = []
    for op in ops:
        if op.kind == "gemm" and op.part == "head" and work.head_dtype is not None:
            found.append(op._replace(weight_bytes=_stored(op, arch, work, work.head_dtype)))
        elif op.kind == "gemm" and op.part != "head" and first:
            written = storage_bytes(op.flops_full // (2 * rows), work.dtype)
            unpack = Op(
                f"{op.name}.unpack", "elementwise", op.count, weight_bytes=op.weight_bytes, written_bytes=written,
                roof="copy",
            )  # fmt: skip
            found += placed(op.part, op.step, unpack)
            found.append(op._replace(weight_bytes=written))
        else:
            found.append(op)
    return tuple(found)


def _stored(op: Op, arch: LlamaArch, work: "Workload", dtype: str) -> int:
    return storage_bytes(arch.vocab_size // work.tensor_parallel * arch.dim, dtype)
