"""The predicted time of a training step, from the operations of its forward pass and the bytes of its update.

The backward pass does two products for each of the forward pass, as large as it (one for the gradient of the input, one
for that of the weight), five for attention's two where its scores are computed again (llamalab.analytic.training), and
elementwise operations move as much as forward for each of two gradients. Beside the forward pass's rows there is the
loss, which reads fp32 logits and writes their log-probabilities; the append to a cache is left out: there is none.
AdamW reads weight, gradient and two moments and writes all but the gradient; clipping reads the gradient for its norm,
and reads and writes it to scale it. Kernels of the backward pass are others, so that they have rates of their own.
"""

from collections.abc import Mapping

from llamalab.analytic.op import Op
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, predict_pass, total_s
from llamalab.analytic.training import FLASH_BACKWARD
from llamalab.arch import LlamaArch
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

_UPDATE_FP32 = 7 + 3  # fp32 values a parameter that AdamW and clipping move
_MASTER_BYTES = (2 + 4) + (4 + 2)  # of a bf16 model: its gradient to fp32, the master back into it
_ADDED_BYTES = 2 + 4 + 4  # a further pass's gradient, added to what the master has


class TrainingRates(NamedTuple):
    """Rates of each class of operations forward and backward, and the byte/s of an update."""

    forward: Mapping[str, Rates]
    backward: Mapping[str, Rates]
    update_bytes_per_s: float


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
    rates: TrainingRates,
    shape: PassShape,
    *,
    accumulate: int = 1,
) -> StepTime:
    """The time of `accumulate` passes of that shape and the update after them.

    Raises UnavailableError where the rates of a class are missing.

    >>> from llamalab.presets import PRESETS
    >>> same = dict.fromkeys(("gemm", "attention", "elementwise", "gather"), Rates(1e12, 1e18))
    >>> time = step_time(PRESETS["7b"].arch, TrainingRates(same, same, 1e12), PassShape(2048, attention="naive"))
    >>> round(time.backward_s / time.forward_s, 3)
    2.0
    """
    ops = training_ops(arch, shape)
    forward_s = total_s(ops, predict_pass(ops, rates.forward))
    after = tuple(map(backward, ops))
    backward_s = total_s(after, predict_pass(after, rates.backward))
    update_s = update_traffic_bytes(arch, shape.dtype, accumulate) / rates.update_bytes_per_s
    return StepTime(accumulate * forward_s, accumulate * backward_s, update_s)


def training_ops(arch: LlamaArch, shape: PassShape) -> tuple[Op, ...]:
    """The rows of a training pass: logits of every token and their loss, without a cache."""
    ops = forward_ops(arch, shape._replace(logits="all"))
    return (*(op for op in ops if op.mode != "append"), _loss(arch, shape.batch * shape.new_tokens, shape.dtype))


def backward(op: Op) -> Op:
    """The backward row of a forward row."""
    up, down = FLASH_BACKWARD if op.kind == "attention" and not op.is_naive_step else (2, 1)
    return op._replace(
        flops_full=up * op.flops_full // down,
        flops_causal=up * op.flops_causal // down,
        weight_bytes=2 * op.weight_bytes,
        read_bytes=2 * op.read_bytes,
        written_bytes=2 * op.written_bytes,
        reread_bytes=2 * op.reread_bytes,
    )


def update_traffic_bytes(arch: LlamaArch, dtype: str, accumulate: int = 1) -> int:
    """Bytes that clipping, AdamW and the copies of a bf16 model's masters move in a step of so many passes.

    >>> from llamalab.presets import PRESETS
    >>> update_traffic_bytes(PRESETS["7b"].arch, "bf16") / parameter_count(PRESETS["7b"].arch)
    52.0
    """
    masters = 0 if dtype == "fp32" else _MASTER_BYTES + (accumulate - 1) * _ADDED_BYTES
    return parameter_count(arch) * (4 * _UPDATE_FP32 + masters)


def _loss(arch: LlamaArch, rows: int, dtype: str) -> Op:
    """Logits to fp32, then to log-probabilities, of which one a token is taken."""
    logits = rows * arch.vocab_size
    return Op(
        "loss",
        "elementwise",
        1,
        vector_flops=4 * logits,
        read_bytes=storage_bytes(logits, dtype),
        written_bytes=storage_bytes(logits, "fp32"),
        mode="loss",
        part="head",
        roof="copy",
        step="logits",
    )
