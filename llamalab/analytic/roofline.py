"""The predicted time of an operation: t0 + softmax_q(FLOPs / (e_c * peak), bytes / (e_m * bandwidth)).

The soft maximum (x**q + y**q)**(1/q) is the classic roofline for q -> infinity; a finite q says
that compute and memory overlap imperfectly, q = 1 that they do not overlap at all. The bound is the
plain maximum at the peaks, without t0: no prediction falls below it (Williams et al. 2009, Roofline).
A collective moves its link_bytes over the interconnect instead of its bytes over the memory.
"""

from collections.abc import Mapping

from llamalab.analytic.op import Op
from llamalab.errors import UnavailableError
from llamalab.startup.hints import NamedTuple

SHARP = 64.0  # an exponent at which the soft maximum is the maximum to within 1.1 %


class Rates(NamedTuple):
    """The rates of a class of operations on one machine.

    `peak_flops_per_s` is None where the class is never limited by arithmetic.
    """

    peak_flops_per_s: float | None
    bandwidth_bytes_per_s: float
    t0_s: float = 0.0
    compute_efficiency: float = 1.0
    memory_efficiency: float = 1.0
    q: float = SHARP

    def bound(self) -> "Rates":
        """The same machine without losses: a lower bound of times."""
        return Rates(self.peak_flops_per_s, self.bandwidth_bytes_per_s)


class Prediction(NamedTuple):
    """Seconds of one occurrence of an op, its bound, and its limit: compute, memory, latency."""

    time_s: float
    bound_s: float
    limit: str


def predict_op(op: Op, rates: Rates) -> Prediction:
    """The time of one occurrence of `op`.

    >>> op = Op("x", "gemm", 1, 200, 200, 0, 40, 5, 5)
    >>> predict_op(op, Rates(100.0, 100.0, t0_s=1.0)).limit
    'compute'
    """
    compute_s = op.flops_causal / rates.peak_flops_per_s if rates.peak_flops_per_s else 0.0
    memory_s = moved_bytes(op) / rates.bandwidth_bytes_per_s
    slow_compute, slow_memory = compute_s / rates.compute_efficiency, memory_s / rates.memory_efficiency
    work_s = soft_maximum(slow_compute, slow_memory, rates.q)
    limit = "latency" if rates.t0_s > work_s else "compute" if slow_compute > slow_memory else "memory"
    return Prediction(rates.t0_s + work_s, max(compute_s, memory_s), limit)


def known_rates(op: Op, rates: Mapping[str, Rates]) -> Rates | None:
    """The constants of an op: of its rate class, else of the next wider one; None where there are none."""
    for name in op.rate_classes:
        if name in rates:
            return rates[name]
    return None


def rates_of_op(op: Op, rates: Mapping[str, Rates]) -> Rates:
    """As known_rates. Raises UnavailableError where there are none."""
    return rates_of_classes(op.name, op.rate_classes, rates)


def rates_of_classes(name: str, classes: tuple[str, ...], rates: Mapping[str, Rates]) -> Rates:
    """As rates_of_op, of an operation by its name and classes."""
    for one in classes:
        if one in rates:
            return rates[one]
    raise UnavailableError(
        f"a prediction of {name} must have constants of the class {classes[0]}; the calibration found no "
        "kernel of it; calibrate again, or predict on another basis"
    )


def predict_pass(ops: tuple[Op, ...], rates: Mapping[str, Rates]) -> dict[str, Prediction]:
    """Predictions by op name; `rates` maps a rate class, or a whole kind, to its rates."""
    return {op.name: predict_op(op, rates_of_op(op, rates)) for op in ops}


def total_s(ops: tuple[Op, ...], predictions: Mapping[str, Prediction]) -> float:
    """Seconds of the whole pass: every op times its count."""
    return sum(op.count * predictions[op.name].time_s for op in ops)


def moved_bytes(op: Op) -> int:
    """Bytes that determine the op's time: over the links for a collective, through memory for all else, each once.

    Repeated reads within an op may come from a cache, so that they are no part of a bound; their
    cost is in the constants, which are fitted on this count.
    """
    return op.link_bytes if op.kind == "collective" else op.bytes - op.reread_bytes


def soft_maximum(x: float, y: float, q: float) -> float:
    """(x**q + y**q)**(1/q), safe against overflow and underflow.

    >>> soft_maximum(3.0, 4.0, 2.0)
    5.0
    """
    if x == 0.0:  # as for an operation without arithmetic
        return y
    largest = max(x, y)
    return float(largest * ((x / largest) ** q + (y / largest) ** q) ** (1 / q))
