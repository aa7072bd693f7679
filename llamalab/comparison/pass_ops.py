"""The op table of a measured pass: FLOPs and bytes of one rank of it, by the measured names."""

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.op import Op
from llamalab.analytic.pass_shape import PassShape
from llamalab.records.record import Pass, Record


def shape_of_pass(run: Pass) -> PassShape:
    """The shape of a measured pass."""
    return PassShape(
        new_tokens=run.new_tokens,
        context_tokens=run.context_tokens,
        batch=run.batch,
        dtype=run.dtype,
        kv_dtype=run.kv_dtype,
        attention=run.algorithm,
        tensor_parallel=run.ranks,
    )


def ops_of(record: Record, run: Pass) -> tuple[Op, ...]:
    """The operations of one of a record's passes, with the weight storage of the record."""
    return model_ops(record.llama_arch, shape_of_pass(run), record.kept)
