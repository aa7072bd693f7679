"""What the sum of a training step's tensors leaves out on a device, and how far it may be off.

Context, workspace and fragmentation are those of the CUDA runtime (llamalab.analytic.runtimes). STEP_ERROR is the bar
within which the sums of measured steps lie (experiments/training_memory).
"""

from math import ceil

from llamalab.analytic.runtimes import RUNTIMES
from llamalab.startup.hints import NamedTuple

STEP_ERROR = 0.03


class Margin(NamedTuple):
    """Bytes of a device that must be free beside the sum."""

    context_bytes: int
    workspace_bytes: int
    fragmentation_bytes: int
    error_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of them."""
        return sum(self)

    def terms(self) -> list[dict[str, str | int]]:
        """Each with its name, as the rows of a sum."""
        names = {
            "context_bytes": "context of the device",
            "workspace_bytes": "workspace of libraries",
            "fragmentation_bytes": "fragmentation",
            "error_bytes": f"error of the sum, {STEP_ERROR:.0%}",
        }
        return [{"term": names[key], "bytes": size, "basis": "margin"} for key, size in self._asdict().items()]


def training_margin(total_bytes: int, temporary_bytes: int) -> Margin:
    """Of a sum, in which activations and gathered weights are temporary: taken and given back in the step.

    >>> training_margin(10**10, 10**9)[2:]
    (50000000, 300000000)
    """
    cuda = RUNTIMES["cuda"]
    return Margin(
        cuda.context_bytes,
        cuda.workspace_bytes,
        ceil(cuda.fragmentation * temporary_bytes),
        ceil(STEP_ERROR * total_bytes),
    )
