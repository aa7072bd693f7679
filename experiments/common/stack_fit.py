"""The fit of one row of stacks.json to published runs, held near its parent's values.

Minimised is a robust loss of log(predicted / measured) plus the distance from the parent's values in units of SCALES
times the pull: with few points a row stays near its parent, and a cell that the points do not tell stays there.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from llamalab.analytic import stacks
from llamalab.analytic.stack_constants import stack_constants
from llamalab.comparison import scoring
from llamalab.comparison.measured_runs import MeasuredPoint

ROBUST, CLOSE, INSIDE = 0.06, 1e-4, 1e-4
# How far a cell may plausibly lie from its parent's value, and the limits of what it can mean.
SCALES = {
    "gemm_compute": 0.12,
    "gemm_memory": 0.08,
    "packed_compute": 0.15,
    "packed_memory": 0.12,
    "kernel_s": 3e-6,
    "attention_compute": 0.2,
    "attention_memory": 0.2,
    "decode_memory": 0.15,
    "decode_vector_compute": 0.3,
    "split_gain": 1.0,
    "elementwise_memory": 0.2,
    "unpack_ops": 6.0,
    "k_quant_ops": 0.5,
    "row_bytes_per_clock": 4.0,
    "vector_ops": 15.0,
    "link_s": 1e-5,
    "link_memory": 0.2,
    "hop_s": 2e-5,
    "step_s": 1e-3,
    "sequence_s": 3e-5,
    "request_s": 1e-2,
    "interleave": 0.2,
    "die_bytes_per_s": 1e10,
}
LIMITS = {
    "unpack_ops": (1.0, 100.0),
    "k_quant_ops": (1.0, 4.0),
    "row_bytes_per_clock": (1.0, 64.0),
    "split_gain": (1.0, 20.0),
    "vector_ops": (0.0, 200.0),
    "decode_vector_compute": (1e-3, 1.0),
    "kernel_s": (2e-7, 6e-5),
    "link_s": (1e-6, 3e-4),
    "hop_s": (1e-6, 1e-4),
    "step_s": (0.0, 0.2),
    "sequence_s": (0.0, 1e-3),
    "request_s": (0.0, 1.0),
    "interleave": (0.0, 1.2),
    "die_bytes_per_s": (2e10, 4e11),
}
SHARE = (0.02, 1.0)
# Cells of one kind go the same way from the parent, unless points tell: both shares of compute, both of memory.
TOGETHER = (("gemm_compute", "packed_compute"), ("gemm_memory", "packed_memory"))
APART = 0.1  # how far their ratios to the parent may plausibly lie apart, as a logarithm


def weight(point: MeasuredPoint) -> float:
    """How much a point weighs: by what its source says of itself."""
    source = point.row["source"].lower()
    unsure = any(word in source for word in ("not stated", "not told apart", "assumed"))
    weak = point.stack == "vllm-2024" and point.spec.vendor == "AMD"
    return 0.5 if unsure or weak else 1.0


def log_error(point: MeasuredPoint, stack: stacks.Stack) -> float:
    """log(predicted / measured)."""
    work = point.work
    constants = stack_constants(
        stack, point.spec, work.dtype, work.weight_dtype, threads=work.threads, ranks=work.tensor_parallel
    )
    return float(np.log(scoring.predicted_of(point, constants) / point.measured))


def fit(points: Sequence[MeasuredPoint], stack: stacks.Stack, start: dict[str, float], pull: float) -> stacks.Stack:
    """The stack with the cells of `start` fitted, each held near its value there by the pull; without points, at it.

    The search begins at the stack's own values, those of an earlier fit: where it ends does not hang on them.
    """
    if not points:
        return stack._replace(**start)
    free = list(start)
    scale = np.array([SCALES[cell] for cell in free])
    low, high = (np.array([LIMITS.get(cell, SHARE)[end] for cell in free]) for end in (0, 1))
    near = np.clip(list(start.values()), low, high)
    weights = np.sqrt([weight(point) for point in points])
    pairs = [(free.index(one), free.index(other)) for one, other in TOGETHER if one in start and other in start]

    def residuals(values: np.ndarray) -> np.ndarray:
        tried = stack._replace(**dict(zip(free, map(float, values), strict=True)))
        errors = np.array([log_error(point, tried) for point in points]) / ROBUST
        robust = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        apart = np.array([math.log(values[i] / near[i] / (values[j] / near[j])) for i, j in pairs])
        return np.concatenate([weights * robust, pull * (values - near) / scale, pull * apart / APART])

    own = [getattr(stack, cell) for cell in free]
    inside = np.clip(near if None in own else own, low + INSIDE * (high - low), high - INSIDE * (high - low))
    found = least_squares(residuals, inside, bounds=(low, high), x_scale=scale, diff_step=1e-4, ftol=CLOSE, xtol=CLOSE)
    return stack._replace(**dict(zip(free, map(float, found.x), strict=True)))
