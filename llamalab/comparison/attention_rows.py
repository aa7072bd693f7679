"""Attention alone: one backend at one length, with its predicted time and memory."""

from statistics import median

from llamalab.analytic.activations import attention_bytes, memory_of
from llamalab.analytic.attention_cost import AttentionShape, flash_step, naive_steps
from llamalab.analytic.op import Op
from llamalab.comparison.basis import RecordBasis
from llamalab.comparison.passes import relative_error
from llamalab.records.record import AttentionPoint
from llamalab.startup.hints import NamedTuple


class AttentionRow(NamedTuple):
    """One backend at one length, with its predicted time and memory."""

    point: AttentionPoint
    predicted_s: float | None
    predicted_bytes: int
    reason: str | None

    @property
    def measured_s(self) -> float | None:
        """Median seconds; None where it could not be run."""
        return median(self.point.samples_s) if self.point.samples_s else None

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1."""
        return relative_error(self.predicted_s, self.measured_s)


def shape_of_point(point: AttentionPoint) -> AttentionShape:
    """The call that a point is of."""
    return AttentionShape(
        batch=point.batch,
        new_tokens=point.new_tokens,
        context_tokens=point.context_tokens,
        n_heads=point.n_heads,
        n_kv_heads=point.n_kv_heads,
        head_dim=point.head_dim,
        dtype=point.dtype,
        kv_dtype=point.dtype,
    )


def attention_row(basis: RecordBasis, point: AttentionPoint, backend: str) -> AttentionRow:
    """The prediction of one measured point; `backend` is the one whose rate the basis has."""
    shape = shape_of_point(point)
    steps = naive_steps(shape) if point.algorithm == "naive" else (flash_step(shape),)
    total, reason = 0.0, None
    mode = "decode" if point.new_tokens == 1 else "prefill"
    for step in steps:
        op = Op(
            name=step.name,
            kind="attention",
            count=1,
            flops_full=step.flops_full,
            flops_causal=step.flops_causal,
            vector_flops=step.vector_flops,
            read_bytes=step.read_bytes,
            written_bytes=step.written_bytes,
            mode=mode,
            roof=step.roof,
        )
        prediction = basis.predict(op, point.dtype)
        if isinstance(prediction, str):
            reason = prediction
        else:
            total += prediction.time_s
    if point.algorithm == "flash" and point.backend != backend:
        reason = f"the roof of attention is that of {backend}, which the model runs"
    held = attention_bytes(shape, memory_of(point.backend, point.algorithm))
    return AttentionRow(point, None if reason else total, held, reason)
