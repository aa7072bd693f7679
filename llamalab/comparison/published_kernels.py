"""The op table of a pass with kernels that others measured on the same device: the nearest shape of each.

The published kernel's time is compared with the prediction for its own shape by the same constants. It shows the
error of predictions of single kernels on GPUs that this machine lacks.
"""

from collections.abc import Iterable, Mapping

from llamalab.analytic.forecast import Forecast
from llamalab.analytic.kernel_times import (
    PublishedKernel,
    devices_with_kernel_times,
    kernel_of,
    kernel_op,
    nearest,
    shape_words,
)
from llamalab.analytic.op import Op
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, predict_op, rates_of_op
from llamalab.analytic.workload import Workload, decode_contexts, last_part
from llamalab.arch import LlamaArch
from llamalab.startup.hints import NamedTuple

PUBLISHED = "published"  # the basis of such a time


class KernelBeside(NamedTuple):
    """A row of the op table with its prediction `here_s`, and the nearest published kernel with its `predicted_s`.

    Without a published kernel both are None, with the `reason`; `shape` is None where none of its kind is published.
    """

    op: str
    shape: str | None
    here_s: float
    published: PublishedKernel | None = None
    predicted_s: float | None = None
    reason: str | None = None

    @property
    def error(self) -> float | None:
        """Predicted / published - 1, for the published shape."""
        if self.published is None or self.predicted_s is None:
            return None
        return self.predicted_s / self.published.time_s - 1

    def row(self, phase: str) -> dict[str, object]:
        """The cells of a table."""
        one = self.published
        return {
            "phase": phase,
            "op": self.op,
            "shape": self.shape,
            "time_s": self.here_s,
            "kernel": one and one.kernel,
            "published_shape": one and one.shape,
            "published_s": one and one.time_s,
            "predicted_s": self.predicted_s,
            "error": self.error,
            "basis": one and PUBLISHED,
            "source": one and one.source,
            "reason": self.reason,
        }


def published_beside(
    device: str, arch: LlamaArch, ops: Iterable[Op], shape: PassShape, rates: Mapping[str, Rates]
) -> list[KernelBeside]:
    """The rows of a pass in order, each with the nearest kernel of its kind published for the device, or the reason."""
    return [_beside(device, arch, op, shape, rates) for op in ops]


def _beside(device: str, arch: LlamaArch, op: Op, shape: PassShape, rates: Mapping[str, Rates]) -> KernelBeside:
    here_s = predict_op(op, rates_of_op(op, rates)).time_s
    kernel = kernel_of(op, arch, shape)
    if kernel is None:
        return KernelBeside(op.name, None, here_s, reason="nobody timed a kernel of this kind, dtype and head dim")
    one = nearest(device, *kernel)
    if one is None:
        some = kernel[0] if device in devices_with_kernel_times() else "kernel"
        return KernelBeside(op.name, shape_words(*kernel), here_s, reason=f"no {some} of {device} is published")
    published = kernel_op(one)
    predicted_s = predict_op(published, rates_of_op(published, rates)).time_s
    return KernelBeside(op.name, shape_words(*kernel), here_s, one, predicted_s)


def published_rows(device: str, arch: LlamaArch, run: Workload, result: Forecast) -> list[dict[str, object]]:
    """Both passes of a run that was predicted for the device, as rows of a table."""
    passes = [("prefill", result.prefill_ops, last_part(run))]
    if result.decode_ops:
        passes.append(("decode", result.decode_ops, (1, decode_contexts(run)[1][1])))
    return [
        one.row(phase)
        for phase, ops, tokens in passes
        for one in published_beside(device, arch, ops, run.shape(*tokens), result.constants.rates)
    ]
