"""The constants that fit measured kernel times best: t0, e_c, e_m and q within bounds, by Nelder-Mead.

    time = t0 + ((FLOPs / (e_c peak))**q + (bytes / (e_m bandwidth))**q)**(1/q)     (llamalab.analytic.roofline)

The loss is the mean |log(predicted / measured)|, symmetric in too slow and too fast, each kernel weighed by its share
of its pass: 20 us matter in a small model and not in a large one. The start is fixed, so that the same times give the
same constants.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from llamalab.analytic.op import Op
from llamalab.analytic.roofline import Rates, moved_bytes

Loss = Callable[[np.ndarray], float]
_EFFICIENCY, _SHARPEST = 0.02, 8.0
_FLAT = 1e-9  # spread of losses over a simplex below which it has collapsed or converged


class Kernel(NamedTuple):
    """A row of the cost table, the best time seen for one occurrence, and its share of its pass as weight."""

    op: Op
    time_s: float
    share: float = 1.0


class Fit(NamedTuple):
    """Constants of a class, the number of kernels behind them, and their mean relative error, weighed by share.

    `flops` and `bytes` are the smallest and largest work among the kernels.
    """

    rates: Rates
    kernels: int
    error: float
    flops: tuple[int, int]
    bytes: tuple[int, int]

    @property
    def origin(self) -> dict[str, Any]:
        """The fields that a file of constants keeps beside the rates."""
        return {name: value for name, value in self._asdict().items() if name != "rates"}


def best_rates(kernels: Sequence[Kernel]) -> tuple[float | None, float]:
    """The highest FLOP/s and byte/s among kernels, which no prediction may exceed; None where nothing computes."""
    peak = max(kernel.op.flops_causal / kernel.time_s for kernel in kernels)
    return peak or None, max(moved_bytes(kernel.op) / kernel.time_s for kernel in kernels)


def fit_class(kernels: Sequence[Kernel], peak: float | None, bandwidth: float) -> Fit:
    """The constants of one class at a given peak and bandwidth.

    t0 lies between 0 and the shortest time, efficiencies between 0.02 and 1, q between 1 and 8.
    """
    time_s = np.array([kernel.time_s for kernel in kernels])
    compute_s = np.array([kernel.op.flops_causal / peak if peak else 0.0 for kernel in kernels])
    share = np.array([kernel.share for kernel in kernels])
    memory_s = np.array([moved_bytes(kernel.op) / bandwidth for kernel in kernels])

    def predicted(constants: np.ndarray) -> np.ndarray:
        return predicted_s(compute_s, memory_s, constants)

    shortest = float(time_s.min())
    low = np.array([0.0, _EFFICIENCY, _EFFICIENCY, 1.0])
    high, start = np.array([shortest, 1.0, 1.0, _SHARPEST]), np.array([shortest / 4, 0.7, 0.7, 2.0])
    best = minimum_within(
        lambda inside: float(np.average(np.abs(np.log(predicted(inside) / time_s)), weights=share)),
        start,
        low=low,
        high=high,
    )
    if peak is None:
        best[[1, 3]] = 1.0  # nothing is computed: e_c and q have no effect
    t0, compute, memory, q = (float(value) for value in best)
    error = float(np.average(np.abs(predicted(best) / time_s - 1), weights=share))
    flops, moved = ([amount(kernel.op) for kernel in kernels] for amount in (_flops, moved_bytes))
    rates = Rates(
        peak_flops_per_s=peak,
        bandwidth_bytes_per_s=bandwidth,
        t0_s=t0,
        compute_efficiency=compute,
        memory_efficiency=memory,
        q=q,
    )
    return Fit(rates, len(kernels), error, (min(flops), max(flops)), (min(moved), max(moved)))


def _flops(op: Op) -> int:
    return op.flops_causal


def predicted_s(compute_s: np.ndarray, memory_s: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """Seconds of kernels, without t0, from their times at peak and at full bandwidth."""
    t0, compute, memory, q = constants
    x, y = compute_s / compute, memory_s / memory
    largest = np.maximum(x, y)
    predicted: np.ndarray = t0 + largest * ((x / largest) ** q + (y / largest) ** q) ** (1 / q)
    return predicted


def minimum_within(loss: Loss, start: np.ndarray, *, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The minimum of `loss` between `low` and `high`, searched from `start`."""

    def fenced(raw: np.ndarray) -> float:
        inside = np.clip(raw, low, high)
        return loss(inside) + float(np.sum(np.abs(raw - inside) / high))

    found: np.ndarray = np.clip(nelder_mead(fenced, start, step=start / 5), low, high)
    return found


def nelder_mead(loss: Loss, start: np.ndarray, *, step: np.ndarray) -> np.ndarray:
    """The minimum of `loss` near `start`; restarted twice because a simplex can collapse."""
    for _ in range(3):
        start = _simplex(loss, [start, *(start + np.eye(len(start))[i] * step[i] for i in range(len(start)))])
    return start


def _simplex(loss: Loss, points: list[np.ndarray], iterations: int = 400) -> np.ndarray:
    ranked = sorted(((loss(point), i, point) for i, point in enumerate(points)), key=lambda entry: entry[:2])
    for tie in range(len(points), len(points) + iterations):
        worst = ranked[-1]
        centre = np.mean([point for _, _, point in ranked[:-1]], axis=0)
        moves = [centre + scale * (centre - worst[2]) for scale in (1.0, 2.0, -0.5)]
        tried = min(((loss(move), tie, move) for move in moves), key=lambda entry: entry[0])
        if tried[0] < worst[0]:
            ranked[-1] = tried
        else:
            best = ranked[0][2]
            shrunk = [best + 0.5 * (point - best) for _, _, point in ranked]
            ranked = [(loss(point), i, point) for i, point in enumerate(shrunk)]
        ranked.sort(key=lambda entry: entry[:2])
        if ranked[-1][0] - ranked[0][0] < _FLAT:
            break
    return ranked[0][2]
