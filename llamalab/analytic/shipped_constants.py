"""The constants shipped with the package: of single kernels on three devices, and of a server's host.

Fitted by experiments/fit_constants.py on kernel data of microsoft/vidur 7d47513 (MIT), data/profiling/compute, and
ai-dynamo/aiconfigurator 0.12 (Apache-2.0), vLLM 0.14. They are fractions of a data sheet.
"""

import math
from collections.abc import Mapping

from llamalab.analytic.data_sheet import matrix_peak
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.roofline import Rates
from llamalab.hardware import HardwareSpec, find_hardware, is_listed
from llamalab.startup.hints import NamedTuple


class ClassFit(NamedTuple):
    """Constants of a class; `error` is the mean absolute relative error over the fitted kernels."""

    t0_s: float
    compute_efficiency: float
    memory_efficiency: float
    q: float
    kernels: int
    error: float


# Small messages: no kernel data; 8 us is what llm-analysis assumes for one.
_ONE_SHOT = ClassFit(8e-6, 1.0, 1.0, 1.0, 0, math.nan)
# Best bf16 and fp8 products measured on Hopper by one program: 0.803 and 0.734 of their peaks
# (stas00/ml-engineering, "When Is It Worth Upgrading GPUs?", tables of MAMF). There are no fp8 kernels to fit on.
FP8_SHARE = 0.734 / 0.803
SOURCES = {
    "a100-80gb-sxm": "GEMM: vidur a100 (7B, 70B, TP 1-8) and AIConfigurator; elementwise, collective: vidur; "
    "attention: AIConfigurator",
    "h100-80gb-sxm": "GEMM: vidur h100 (7B, 70B, TP 1-8) and AIConfigurator; elementwise, collective: vidur; "
    "attention: AIConfigurator",
    "h200-141gb-sxm": "GEMM: AIConfigurator, and vidur h100 from 512 tokens on; attention: AIConfigurator; "
    "elementwise, collective: those of h100-80gb-sxm",
}
_FITTED: dict[str, dict[str, ClassFit]] = {
    "a100-80gb-sxm": {
        "gemm": ClassFit(5.49e-06, 0.777, 0.773, 1.83, 2202, 0.083),
        "elementwise": ClassFit(3.29e-06, 1.000, 0.569, 1.00, 168, 0.172),
        "attention_prefill": ClassFit(1.14e-05, 0.587, 0.449, 1.00, 569, 0.080),
        "attention_decode": ClassFit(1.94e-05, 0.878, 0.749, 1.11, 596, 0.120),
        "collective": ClassFit(4.87e-05, 1.000, 0.577, 1.00, 2790, 0.088),
    },
    "h100-80gb-sxm": {
        "gemm": ClassFit(5.46e-06, 0.780, 0.924, 2.55, 2202, 0.099),
        "elementwise": ClassFit(2.63e-06, 1.000, 0.657, 1.00, 168, 0.178),
        "attention_prefill": ClassFit(1.29e-05, 0.612, 0.416, 1.06, 569, 0.097),
        "attention_decode": ClassFit(1.24e-05, 0.072, 0.930, 2.60, 596, 0.108),
        "collective": ClassFit(2.8e-05, 1.000, 0.777, 1.00, 2790, 0.076),
    },
    "h200-141gb-sxm": {
        "gemm": ClassFit(5.98e-06, 0.746, 0.875, 5.20, 2016, 0.086),
        "elementwise": ClassFit(2.63e-06, 1.000, 0.657, 1.00, 168, 0.178),
        "attention_prefill": ClassFit(1.28e-05, 0.591, 0.314, 1.09, 569, 0.088),
        "attention_decode": ClassFit(1.26e-05, 0.073, 0.908, 2.22, 596, 0.119),
        "collective": ClassFit(2.8e-05, 1.000, 0.777, 1.00, 2790, 0.076),
    },
}
# A gather is a copy with an index.
SHIPPED: dict[str, dict[str, ClassFit]] = {
    device: {**classes, "gather": classes["elementwise"], "collective_one_shot": _ONE_SHOT}
    for device, classes in _FITTED.items()
}

# Fitted by experiments/fit_host.py on 13 whole-model points of TensorRT-LLM 0.5, none of which is scored.
SHIPPED_HOST = Host(2.2e-3, 13e-6)


def nearest_fitted(spec: HardwareSpec) -> str:
    """The fitted device whose bf16 (or fp16) peak and bandwidth are nearest, as ratios.

    >>> nearest_fitted(find_hardware("b200")), nearest_fitted(find_hardware("a100-40gb-sxm"))
    ('h200-141gb-sxm', 'a100-80gb-sxm')
    """

    def distance(name: str) -> float:
        other = find_hardware(name)
        peak = matrix_peak(spec) / matrix_peak(other)
        return math.hypot(math.log(peak), math.log(spec.bandwidth_bytes_per_s / other.bandwidth_bytes_per_s))

    return spec.name if spec.name in SHIPPED and is_listed(spec) else min(SHIPPED, key=distance)


def with_losses(rates: Rates, fit: ClassFit, nominal: Mapping[str, float], name: str) -> Rates:
    """Rates of a class with the losses of a fit, whose efficiencies refer to the `nominal` peaks."""
    compute = fit.compute_efficiency
    if rates.peak_flops_per_s and name in nominal:
        compute *= nominal[name] / rates.peak_flops_per_s
    return rates._replace(t0_s=fit.t0_s, compute_efficiency=compute, memory_efficiency=fit.memory_efficiency, q=fit.q)
