"""The op table of a pass beside kernels that others measured on the same device: the nearest shape of each.

What is compared is the published kernel: its time, and what the constants of the prediction give for its own shape. So
a reader sees how good predictions of single kernels are on a GPU that nobody has at hand.
"""

from collections.abc import Iterable, Mapping

from llamalab.analytic.kernel_times import PublishedKernel, kernel_of, kernel_op, nearest, shape_words
from llamalab.analytic.op import Op
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, predict_op, rates_of_op
from llamalab.arch import LlamaArch
from llamalab.startup.hints import NamedTuple

PUBLISHED = "published"  # the basis of such a time


class KernelBeside(NamedTuple):
    """A row of the op table, predicted as `here_s`, and the nearest published kernel, predicted as `predicted_s`."""

    op: str
    shape: str
    here_s: float
    published: PublishedKernel
    predicted_s: float

    @property
    def error(self) -> float:
        """Predicted / published - 1, of the published shape."""
        return self.predicted_s / self.published.time_s - 1

    def row(self, phase: str) -> dict[str, object]:
        """As a row of a table."""
        return {
            "phase": phase,
            "op": self.op,
            "shape": self.shape,
            "time_s": self.here_s,
            "kernel": self.published.kernel,
            "published_shape": self.published.shape,
            "published_s": self.published.time_s,
            "predicted_s": self.predicted_s,
            "error": self.error,
            "basis": PUBLISHED,
            "source": self.published.source,
        }


def published_beside(
    device: str, arch: LlamaArch, ops: Iterable[Op], shape: PassShape, rates: Mapping[str, Rates]
) -> list[KernelBeside]:
    """Rows of a pass of which a kernel of the same kind is published on the device, in their order."""
    found = []
    for op in ops:
        kernel = kernel_of(op, arch, shape)
        one = nearest(device, *kernel) if kernel else None
        if kernel and one:
            here_s, predicted_s = (predict_op(row, rates_of_op(row, rates)).time_s for row in (op, kernel_op(one)))
            found.append(KernelBeside(op.name, shape_words(*kernel), here_s, one, predicted_s))
    return found
