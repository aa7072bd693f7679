"""Constants that made the times are found again, and none is a gain."""

import math

import numpy as np
import pytest

from llamalab.analytic.op import Op
from llamalab.analytic.roofline import Rates, predict_op
from llamalab.measure.calibration.fit import Kernel, best_rates, fit_class, minimum_within, nelder_mead

PEAK, BANDWIDTH = 8e11, 3e10


def product(m: int, n: int, k: int) -> Op:
    flops = 2 * m * n * k
    return Op("x", "gemm", 1, flops, flops, 0, 2 * n * k, 2 * m * k, 2 * m * n)


SIZES = [(m, n, k) for m in (1, 7, 24, 100, 392) for n, k in ((2048, 2048), (5504, 2048), (3072, 8192))]


def timed(rates: Rates) -> list[Kernel]:
    return [Kernel(op, predict_op(op, rates).time_s) for op in (product(*size) for size in SIZES)]


def test_the_constants_that_made_the_times_are_found() -> None:
    true = Rates(PEAK, BANDWIDTH, 4e-5, 0.8, 0.9, 1.6)
    fit = fit_class(timed(true), PEAK, BANDWIDTH)
    assert fit.kernels == len(SIZES)
    assert fit.error < 2e-3
    assert fit.rates == pytest.approx(true, rel=0.05)


def test_a_class_that_computes_nothing_has_two_constants() -> None:
    true = Rates(None, BANDWIDTH, 3e-5, 1.0, 0.4, 1.0)
    ops = [Op("x", "elementwise", 1, 0, 0, 9, 0, size, size) for size in (10**3, 10**5, 3 * 10**6, 10**8)]
    fit = fit_class([Kernel(op, predict_op(op, true).time_s) for op in ops], None, BANDWIDTH)
    assert fit.rates.peak_flops_per_s is None
    assert fit.rates[1:] == pytest.approx(true[1:], rel=1e-2)


def test_no_constant_is_a_gain_whatever_the_times() -> None:
    faster = [Kernel(kernel.op, kernel.time_s / 50) for kernel in timed(Rates(PEAK, BANDWIDTH))]
    rates = fit_class(faster, PEAK, BANDWIDTH).rates
    assert 0 <= rates.t0_s <= min(kernel.time_s for kernel in faster)
    assert rates.compute_efficiency <= 1
    assert rates.memory_efficiency <= 1
    assert rates.q >= 1


def test_the_same_times_give_the_same_constants() -> None:
    noise = np.random.default_rng(5)
    kernels = [Kernel(k.op, k.time_s * float(noise.lognormal(0, 0.2))) for k in timed(Rates(PEAK, BANDWIDTH, 1e-5))]
    assert fit_class(kernels, PEAK, BANDWIDTH) == fit_class(list(kernels), PEAK, BANDWIDTH)


def test_a_kernel_weighs_as_much_as_its_share_of_a_pass() -> None:
    op = Op("x", "elementwise", 1, 0, 0, 9, 0, 1000, 1000)
    kernels = [Kernel(op, 20e-6, 0.05), *(Kernel(op, 60e-6, 0.001) for _ in range(9))]
    assert predict_op(op, fit_class(kernels, None, BANDWIDTH).rates).time_s == pytest.approx(20e-6, rel=1e-3)


def test_roofs_are_the_best_rates_seen() -> None:
    small, large = product(1, 64, 64), product(64, 64, 64)
    kernels = [Kernel(small, 1e-6), Kernel(large, 2e-6)]
    assert best_rates(kernels) == (large.flops_causal / 2e-6, max(small.bytes / 1e-6, large.bytes / 2e-6))
    assert best_rates([Kernel(Op("x", "elementwise", 1, read_bytes=10), 1.0)]) == (None, 10.0)


def test_a_minimum_beyond_the_fence_is_found_on_it() -> None:
    def loss(x: np.ndarray) -> float:
        return float((x[0] - 3.0) ** 2 + (x[1] + 1.0) ** 2)

    found = minimum_within(loss, np.array([1.0, 1.0]), low=np.array([0.0, 0.0]), high=np.array([2.0, 2.0]))
    assert found == pytest.approx([2.0, 0.0], abs=1e-6)


def test_nelder_mead_finds_a_curved_valley() -> None:
    def valley(x: np.ndarray) -> float:
        return float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)

    assert math.dist(nelder_mead(valley, np.array([-1.2, 1.0]), step=np.array([0.2, 0.2])), (1.0, 1.0)) < 1e-3
