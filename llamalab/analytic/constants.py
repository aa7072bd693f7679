"""The fraction of its data sheet that a device reaches: fitted constants, and where they came from.

Per class of operation: a fixed time t0, the efficiencies e_c and e_m against peak and bandwidth, and
the exponent q of the soft maximum (llamalab.analytic.roofline). Three tiers, in rising trust:

    bound       the data sheet; nothing is lost
    shipped     constants below, fitted by experiments/fit_constants.py on single kernels
    calibrated  rates measured on the machine at hand, read from a JSON file

Shipped constants are fractions, so a device without kernel data takes those of the fitted device
whose peak and bandwidth are nearest, and its prediction says so. Kernel data: microsoft/vidur
7d47513 (MIT), data/profiling/compute; ai-dynamo/aiconfigurator 0.12 (Apache-2.0), vLLM 0.14.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llamalab.analytic.roofline import Rates
from llamalab.errors import FormatError, InputError, MissingError, UnavailableError
from llamalab.hardware import CPU, HARDWARE, PEAK_DTYPES, HardwareSpec, find_hardware

TIERS = ("bound", "shipped", "calibrated")
SCHEMA_VERSION = 1
# Stored small, multiplied in the dtype of the activations.
WEIGHT_ONLY = ("int8", "int4", "q4_0", "q8_0", "q4_k_m", "q5_k_m", "q6_k")


CLASSES = {"gather", "gemm", "elementwise", "attention_prefill", "attention_decode"}  # at least


class ClassFit(NamedTuple):
    """Constants of a class; `error` is the mean absolute relative error over the kernels it was fitted on."""

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
_FP8_SHARE = 0.734 / 0.803
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


class Host(NamedTuple):
    """What a stack's host adds: once per request, per sequence of the batch and token, and per decode step."""

    request_s: float = 0.0
    sequence_s: float = 0.0
    step_s: float = 0.0


# Fitted by experiments/fit_host.py on 13 whole-model points of TensorRT-LLM 0.5, none of which is scored.
SHIPPED_HOST = Host(2.2e-3, 13e-6)


class Constants(NamedTuple):
    """Rates by class for one device and dtype, the basis of a prediction with them, and its usual error.

    `spread` is the relative half-width within which about 9 of 10 scored points lie; None for a bound.
    """

    rates: Mapping[str, Rates]
    basis: str
    spread: float | None
    host: Host = Host()

    def interval(self, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """Low and high end of a predicted time, never below its bound; a bound has no high end."""
        if self.spread is None:
            return time_s, None
        return max(bound_s, time_s * (1 - self.spread)), time_s * (1 + self.spread)


# Half-widths: 9 of 10 published points of fitted devices lie within the first (docs/accuracy.md); twice
# that where constants were transferred to another chip.
SPREAD, TRANSFERRED_SPREAD = 0.15, 0.30


def choose(
    spec: HardwareSpec, tier: str, dtype: str, weight_dtype: str | None = None, *, file: Path | None = None
) -> Constants:
    """The constants of a tier for `spec`; `file` holds calibrated ones (default: default_path).

    Raises MissingError where there is no calibration, UnavailableError where the device has no such peak.
    """
    if tier == "calibrated":
        return read_constants(file or default_path(spec.name, dtype), dtype)
    if spec.measured and tier in TIERS:
        if tier == "shipped":
            raise UnavailableError(f"{spec.name} must be calibrated: no constants are shipped for it; drop --basis")
        found = read_constants(file or default_path(spec.name, dtype), dtype)
        return Constants({name: rates.bound() for name, rates in found.rates.items()}, "bound (measured roofs)", None)
    bounds = data_sheet(spec, dtype, weight_dtype or dtype, packed=(weight_dtype or dtype) in WEIGHT_ONLY)
    if tier == "bound":
        return Constants(bounds, "bound (data sheet)", None)
    if tier != "shipped":
        raise InputError(f"basis must be one of {', '.join(TIERS)}; got {tier!r}")
    fitted = nearest_fitted(spec)
    nominal = _nominal(spec, dtype, weight_dtype or dtype)
    rates = {name: _with_losses(rates, SHIPPED[fitted][name], nominal, name) for name, rates in bounds.items()}
    if product_dtype(spec, dtype, weight_dtype or dtype) == "fp8":
        rates["gemm"] = rates["gemm"]._replace(compute_efficiency=_FP8_SHARE * rates["gemm"].compute_efficiency)
    if fitted == spec.name:
        return Constants(rates, "shipped", SPREAD, SHIPPED_HOST)
    sibling = fitted.partition("-")[0] == spec.name.partition("-")[0]  # the same chip with other memory
    spread = SPREAD if sibling else TRANSFERRED_SPREAD
    return Constants(rates, f"shipped (transferred from {fitted})", spread, SHIPPED_HOST)


def data_sheet(spec: HardwareSpec, dtype: str, weight_dtype: str, *, packed: bool = False) -> dict[str, Rates]:
    """Rates by class that no run can beat: the peaks of the data sheet at the highest clock, without any loss.

    fp16 may be accumulated in fp16 where that is faster; `packed` weights may be multiplied in any narrow type.
    """
    bandwidth, link = spec.bandwidth_bytes_per_s, spec.interconnect_bytes_per_s
    if bandwidth is None:
        raise UnavailableError(f"{spec.name} must have a known bandwidth to predict with; its data sheet has none")
    attention = Rates(_highest(spec, dtype), bandwidth)
    rates = {
        "gather": Rates(None, bandwidth),
        "gemm": Rates(_highest(spec, product_dtype(spec, dtype, weight_dtype), packed=packed), bandwidth),
        "elementwise": Rates(None, bandwidth),
        "attention_prefill": attention,
        "attention_decode": attention,
    }
    # The figure of a data sheet counts both directions; a ring sends in one while it receives in the other.
    return rates | (dict.fromkeys(("collective", "collective_one_shot"), Rates(None, link / 2)) if link else {})


def _highest(spec: HardwareSpec, dtype: str, *, packed: bool = False) -> float:
    """The fastest products in a type at the highest clock."""
    peaks = [_peak(spec, dtype)]
    if dtype == "fp16" or packed:
        peaks.append(spec.fp16_in_fp16_flops_per_s or 0.0)
    if packed:
        peaks += [spec.peak_flops_per_s.get(name) or 0.0 for name in ("int8", "fp8")]
    return spec.boost * max(peaks)


def product_dtype(spec: HardwareSpec, dtype: str, weight_dtype: str) -> str:
    """The dtype that matrix products run in: the weights' where they are no mere storage and the device has it.

    >>> product_dtype(find_hardware("h200"), "bf16", "int4"), product_dtype(find_hardware("h200"), "bf16", "fp8")
    ('bf16', 'fp8')
    """
    if weight_dtype == dtype:
        return dtype
    storage_only = weight_dtype in WEIGHT_ONLY or spec.peak_flops_per_s.get(weight_dtype) is None
    return dtype if storage_only else weight_dtype


def nearest_fitted(spec: HardwareSpec) -> str:
    """The fitted device whose bf16 (or fp16) peak and bandwidth are nearest, as ratios.

    >>> nearest_fitted(find_hardware("b200")), nearest_fitted(find_hardware("a100-40gb-sxm"))
    ('h200-141gb-sxm', 'a100-80gb-sxm')
    """

    def distance(name: str) -> float:
        other = find_hardware(name)
        peak = _matrix_peak(spec) / _matrix_peak(other)
        return math.hypot(math.log(peak), math.log(spec.bandwidth_bytes_per_s / other.bandwidth_bytes_per_s))

    return spec.name if spec.name in SHIPPED else min(SHIPPED, key=distance)


def folder() -> Path:
    """Where this machine's calibrations are kept."""
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(base) / "llamalab"


def default_path(device: str, dtype: str) -> Path:
    """Where the constants of one device and dtype, calibrated on this machine, are kept."""
    return folder() / f"{device}-{dtype}.json"


def to_json(
    device: str, dtype: str, made_on: str, rates: Mapping[str, Rates], validation: Mapping[str, Any], **more: Any
) -> str:
    """Calibrated constants as text for default_path.

    `validation` holds `prefill_error` and `decode_error`, mean absolute relative errors on shapes that the
    calibration did not see, and `points`, those shapes. `more` is kept as it is: `title` and `memory_bytes`
    of the machine among it.
    """
    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "llamalab-constants",
            "device": device,
            "dtype": dtype,
            "made_on": made_on,
            "classes": {name: rate._asdict() for name, rate in rates.items()},
            "validation": dict(validation),
            **more,
        },
        indent=1,
    )


def read_calibration(path: Path) -> dict[str, Any]:
    """The JSON of a file that to_json wrote, unchecked. Raises MissingError where there is none, FormatError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(
            f"calibrated constants must exist; there are none at {path}; run llamalab calibrate first"
        ) from None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} must be a readable JSON file; got {error}") from None
    if not isinstance(data, dict):
        raise FormatError(f"{path} must be written by llamalab calibrate; it holds no JSON object")
    return data


def read_constants(path: Path, dtype: str) -> Constants:
    """Constants from a file that to_json wrote. Raises MissingError, FormatError, or InputError for another dtype."""
    return constants_of(read_calibration(path), str(path), dtype)


def constants_of(data: Mapping[str, Any], source: str, dtype: str) -> Constants:
    """Constants from what read_calibration gives. Raises FormatError, or InputError for another dtype."""
    try:
        if (data["kind"], data["schema_version"]) != ("llamalab-constants", SCHEMA_VERSION):
            raise FormatError(f"{source} must hold llamalab-constants of schema {SCHEMA_VERSION}; got {data['kind']!r}")
        rates = {name: Rates(**fields) for name, fields in data["classes"].items()}
        made_for, validation = data["dtype"], data["validation"]
        spread = 2.0 * max(validation["prefill_error"], validation["decode_error"])
        basis = f"calibrated on {data['device']} {data['made_on']}"
        for name, rate in rates.items():
            _check(source, name, rate)
        if lacking := CLASSES - rates.keys():
            raise FormatError(f"{source} must hold all classes; {', '.join(sorted(lacking))} are missing")
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{source} must be written by llamalab calibrate; {error} is wrong") from None
    if made_for != dtype:
        raise InputError(f"constants of {source} must be for {dtype}; they are for {made_for}; calibrate with {dtype}")
    return Constants(rates, basis, spread)


def measured_spec(dtype: str, *, device: str | None = None) -> HardwareSpec:
    """This machine as a row of hardware, from its calibration: of `device`, or of whatever was calibrated last.

    Raises MissingError where nothing was calibrated for `dtype`, FormatError for a file that is no calibration.
    """
    path = default_path(device or CPU, dtype)
    if device is None:
        path = max(folder().glob(f"*-{dtype}.json"), key=lambda one: one.stat().st_mtime, default=path)
    data = read_calibration(path)
    gemm = constants_of(data, str(path), dtype).rates.get("gemm")
    title, memory = data.get("title"), data.get("memory_bytes")
    if gemm is None or not isinstance(title, str) or not isinstance(memory, int):
        raise FormatError(f"{path} must be written by llamalab calibrate; title, memory_bytes or gemm is missing")
    if data["device"] in HARDWARE:
        return HARDWARE[data["device"]]
    peaks = dict.fromkeys(PEAK_DTYPES) | {dtype: gemm.peak_flops_per_s}
    return HardwareSpec(
        data["device"], title, peaks, gemm.bandwidth_bytes_per_s, memory, None, None, None, None, None,
        f"measured by llamalab calibrate on {data['made_on']}", measured=True,
    )  # fmt: skip


def _check(path: str, name: str, rate: Rates) -> None:
    # An efficiency above 1 would put a prediction below its bound.
    sound = 0 < rate.compute_efficiency <= 1 and 0 < rate.memory_efficiency <= 1 and rate.q >= 1 and rate.t0_s >= 0
    if not (sound and rate.bandwidth_bytes_per_s > 0 and (rate.peak_flops_per_s is None or rate.peak_flops_per_s > 0)):
        raise FormatError(f"{path} must hold efficiencies in (0, 1], q >= 1 and positive rates; {name} has {rate}")


def _nominal(spec: HardwareSpec, dtype: str, weight_dtype: str) -> dict[str, float]:
    """The peaks that efficiencies are told of, by class: with fp32 accumulation, at the clock of the data sheet."""
    attention = _peak(spec, dtype)
    gemm = _peak(spec, product_dtype(spec, dtype, weight_dtype))
    return {"gemm": gemm, "attention_prefill": attention, "attention_decode": attention}


def _with_losses(rates: Rates, fit: ClassFit, nominal: Mapping[str, float], name: str) -> Rates:
    compute = fit.compute_efficiency
    if rates.peak_flops_per_s and name in nominal:
        compute *= nominal[name] / rates.peak_flops_per_s
    return rates._replace(t0_s=fit.t0_s, compute_efficiency=compute, memory_efficiency=fit.memory_efficiency, q=fit.q)


def _peak(spec: HardwareSpec, dtype: str) -> float:
    peak = spec.peak_flops_per_s.get(dtype)
    if peak is None:
        known = ", ".join(name for name, value in spec.peak_flops_per_s.items() if value and name != "tf32")
        if not known:
            raise UnavailableError(f"{spec.name} must have a known peak to predict with; its data sheet has none")
        raise UnavailableError(f"{spec.name} must have a {dtype} peak to predict with; it has {known}; choose one")
    return peak


def _matrix_peak(spec: HardwareSpec) -> float:
    return spec.peak_flops_per_s.get("bf16") or spec.peak_flops_per_s.get("fp16") or _peak(spec, "fp32")
