"""The predicted time of a training step, from the operations of its forward pass and what an optimiser moves.

The backward pass does two products for each of the forward pass, as large as it (one for the gradient of the input, one
for that of the weight), five for attention's two where its scores are computed again (llamalab.analytic.training), and
elementwise operations move as much as forward for each of two gradients. AdamW reads weight, gradient and two moments
and writes all but the gradient; clipping reads the gradient for its norm, and reads and writes it to scale it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, predict_pass
from llamalab.analytic.training import FLASH_BACKWARD
from llamalab.arch import LlamaArch

_UPDATE_FP32 = 7 + 3  # fp32 values a parameter that AdamW and clipping move
_MASTER_BYTES = (2 + 4) + (4 + 2)  # of a bf16 model: its gradient to fp32, the master back into it


class StepTime(NamedTuple):
    """Seconds of the parts of a step, passes added up."""

    forward_s: float
    backward_s: float
    update_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(self)


def step_time(
    arch: LlamaArch,
    rates: Mapping[str, Rates],
    shape: PassShape,
    *,
    accumulate: int = 1,
) -> StepTime:
    """The time of `accumulate` passes of that shape and the update after them.

    `rates` maps gemm, attention, elementwise and gather to what they reach. Raises UnavailableError where one is
    missing.

    >>> from llamalab.presets import PRESETS
    >>> rates = dict.fromkeys(("gemm", "attention", "elementwise", "gather"), Rates(1e12, 1e18))
    >>> time = step_time(PRESETS["7b"].arch, rates, PassShape(new_tokens=2048, attention="naive"))
    >>> round(time.backward_s / time.forward_s, 3)
    2.0
    """
    ops = forward_ops(arch, shape._replace(logits="all"))
    predictions = predict_pass(ops, rates)
    up, down = FLASH_BACKWARD if shape.attention == "flash" else (2, 1)
    forward_s = backward_s = 0.0
    for op in ops:
        op_s = op.count * predictions[op.name].time_s
        forward_s += op_s
        backward_s += op_s * (up / down if op.kind == "attention" else 2)
    moved = parameter_count(arch) * (4 * _UPDATE_FP32 + (0 if shape.dtype == "fp32" else _MASTER_BYTES))
    return StepTime(accumulate * forward_s, accumulate * backward_s, moved / rates["elementwise"].bandwidth_bytes_per_s)
