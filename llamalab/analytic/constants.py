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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from llamalab.analytic import grades
from llamalab.analytic.grades import Grade
from llamalab.analytic.ops import Op
from llamalab.analytic.roofline import Rates, moved_bytes
from llamalab.checks import MOST_MEMORY_BYTES
from llamalab.choices import PHASES
from llamalab.errors import FormatError, InputError, MissingError, UnavailableError
from llamalab.hardware import CPU, HARDWARE, PEAK_DTYPES, HardwareSpec, find_hardware, is_listed
from llamalab.hints import Any, NamedTuple
from llamalab.input_files import read_object

TIERS = ("bound", "shipped", "calibrated")
CALIBRATION_SCHEMA = 1
# Stored small, multiplied in the dtype of the activations.
WEIGHT_ONLY = ("int8", "int4", "q4_0", "q8_0", "q4_k_m", "q5_k_m", "q6_k")


CLASSES = {"gather", "gemm", "elementwise", "attention_prefill", "attention_decode"}  # a pass has all of them


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


class Range(NamedTuple):
    """The smallest and largest work of the kernels that a class was fitted on."""

    flops: tuple[int, int]
    bytes: tuple[int, int]

    def distance(self, op: Op) -> float:
        """How many times smaller or larger than all of them an op is, beyond STRETCH; 1 where it is among them.

        >>> Range((0, 0), (1000, 8000)).distance(Op("x", "gather", 1, read_bytes=64_000 * STRETCH))
        8.0
        """
        factors = [1.0]
        for amount, (low, high) in ((op.flops_causal, self.flops), (moved_bytes(op), self.bytes)):
            if amount and high:
                factors += [amount / high / STRETCH, max(1, low) / amount / STRETCH]
        return max(factors)


class Constants(NamedTuple):
    """Rates by class for one device and dtype, the basis of a prediction with them, and its usual error.

    `spread` is the relative half-width within which about 9 of 10 scored points lie; None for a bound. `ranges`
    tell what calibrated classes were fitted on, where that is known.
    """

    rates: Mapping[str, Rates]
    basis: str
    spread: float | None
    host: Host = Host()
    grade: Grade | None = None
    ranges: Mapping[str, Range] = MappingProxyType({})

    @property
    def lacking(self) -> tuple[str, ...]:
        """Classes of every pass that have no constants."""
        return tuple(sorted(CLASSES - self.rates.keys()))

    def distance(self, op: Op) -> float:
        """How far an op is outside of what its class was fitted on; 1 where it is not, or that is not known."""
        found = next((self.ranges[name] for name in op.rate_classes if name in self.ranges), None)
        return found.distance(op) if found else 1.0

    def interval_of(self, op: Op, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """As `interval`; down to the bound, and as much wider upwards as the op is outside of what was fitted."""
        far = self.distance(op)
        low, high = self.interval(time_s, bound_s)
        return (low, high) if far <= 1 or high is None else (min(bound_s, low), high * far)

    def interval(self, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """Low and high end of a predicted time, never below its bound; a bound has no high end."""
        if self.spread is None:
            return time_s, None
        return max(bound_s, time_s * (1 - self.spread)), time_s * (1 + self.spread)


# Half-widths: 9 of 10 published points of fitted devices lie within the first (docs/accuracy.md); twice
# that where constants were transferred to another chip.
SPREAD, TRANSFERRED_SPREAD = 0.15, 0.30
UNCHECKED_SPREAD = 1.0  # of a calibration that was checked on no pass of a phase
POOR_SPREAD = 0.5  # at least, where the calibration is graded poor
STRETCH = 4.0  # constants hold this far beyond the work they were fitted on: 7B's products lie up to 3 times beyond


def choose(
    spec: HardwareSpec, tier: str, dtype: str, weight_dtype: str | None = None, *, file: Path | None = None
) -> Constants:
    """The constants of a tier for `spec`; `file` holds calibrated ones (default: default_path).

    Raises MissingError where there is no calibration, UnavailableError where the device has no such peak.
    """
    if tier == "calibrated":
        if file is None and not (spec.measured or is_listed(spec)):
            raise MissingError(f"{spec.name} must be a device of this machine to be calibrated; it is your own file's")
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
    listed = is_listed(spec)  # a reader's own device may be named like any chip
    if listed and fitted == spec.name:
        return Constants(rates, "shipped", SPREAD, SHIPPED_HOST)
    sibling = listed and fitted.partition("-")[0] == spec.name.partition("-")[0]  # the same chip with other memory
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

    return spec.name if spec.name in SHIPPED and is_listed(spec) else min(SHIPPED, key=distance)


def folder() -> Path:
    """Where this machine's calibrations are kept."""
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(base) / "llamalab"


def default_path(device: str, dtype: str, weight_dtype: str | None = None) -> Path:
    """Where the constants of one device and dtype, calibrated on this machine, are kept; those of quantised weights."""
    return folder() / f"{device}-{dtype}{f'-{weight_dtype}-weights' if weight_dtype else ''}.json"


def to_json(
    device: str, dtype: str, made_on: str, rates: Mapping[str, Rates], validation: Mapping[str, Any], **more: Any
) -> str:
    """Calibrated constants as text for default_path.

    `validation` holds `prefill_error` and `decode_error`, mean absolute relative errors on shapes that the
    calibration did not see, None where there were none, and `points`, those shapes. `more` is kept as it is: `title`
    and `memory_bytes` of the machine among it, `grade`, and `fitted`, by class what it was fitted on.
    """
    return json.dumps(
        {
            "schema_version": CALIBRATION_SCHEMA,
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
    return read_object(
        path, "file of calibrated constants", hint="run llamalab calibrate first (--quick takes ten seconds)"
    )


def read_constants(path: Path, dtype: str) -> Constants:
    """Constants from a file that to_json wrote. Raises MissingError, FormatError, or InputError for another dtype."""
    return parsed_constants(read_calibration(path), str(path), dtype)


def parsed_constants(data: Mapping[str, Any], source: str, dtype: str) -> Constants:
    """Constants from what read_calibration gives. Raises FormatError, or InputError for another dtype."""
    from llamalab.records.codec import build  # here: it imports dataclasses, which a tier without a file does not need

    try:
        if (data["kind"], data["schema_version"]) != ("llamalab-constants", CALIBRATION_SCHEMA):
            raise FormatError(
                f"{source} must hold llamalab-constants of schema {CALIBRATION_SCHEMA}; got {data['kind']!r}"
            )
        rates = build(dict[str, Rates], data["classes"], f"classes of {source}")
        errors = [build(float | None, data["validation"][f"{phase}_error"], f"{phase}_error") for phase in PHASES]
        for key in ("device", "dtype", "made_on"):
            build(str, data[key], f"{key} of {source}")
        made_for, grade = data["dtype"], grades.read(data.get("grade"))
        poor = grade.name == "poor"
        spread = max(_spread(errors), POOR_SPREAD if poor else 0.0)
        basis = f"calibrated on {data['device']} {data['made_on']}{f' ({grade.words})' if poor else ''}"
        for name, rate in rates.items():
            _check(source, name, rate)
        kinds = {"collective"} | {
            name.partition("_")[0] for name in CLASSES
        }  # a calibration may tell modes of a kind apart
        if odd := {name for name in rates if name.partition("_")[0] not in kinds}:
            raise FormatError(
                f"{source} must hold classes of {', '.join(sorted(CLASSES))}; got {', '.join(sorted(odd))}"
            )
        if any(error is not None and error < 0 for error in errors):
            raise FormatError(f"{source} must hold errors of at least 0; got {errors}")
        ranges = _ranges(build(dict[str, dict[str, Any]], data.get("fitted") or {}, f"fitted of {source}"))
    except (KeyError, TypeError) as error:
        raise FormatError(f"{source} must be written by llamalab calibrate; {error} is wrong") from None
    if made_for != dtype:
        raise InputError(f"constants of {source} must be for {dtype}; they are for {made_for}; calibrate with {dtype}")
    return Constants(rates, basis, spread, grade=grade, ranges=ranges)


def _spread(errors: Sequence[float | None]) -> float:
    """Twice the larger error of the checked passes; more where a phase was not checked."""
    return max(UNCHECKED_SPREAD if error is None else 2.0 * error for error in errors)


def _ranges(fitted: Mapping[str, Any]) -> dict[str, Range]:
    """What each class was fitted on; older files do not tell."""
    told = {name: one for name, one in fitted.items() if "bytes" in one}
    return {name: Range(_pair(one["flops"]), _pair(one["bytes"])) for name, one in told.items()}


def _pair(values: Any) -> tuple[int, int]:
    if not isinstance(values, list) or [type(value) for value in values] != [int, int]:
        raise TypeError(f"a range of {values!r}")
    return values[0], values[1]


def measured_spec(dtype: str, *, device: str | None = None) -> HardwareSpec:
    """This machine as a row of hardware, from its calibration: of `device`, or of whatever was calibrated last.

    Raises MissingError where nothing was calibrated for `dtype`, FormatError for a file that is no calibration.
    """
    path = default_path(device or CPU, dtype)
    if device is None:
        path = max(folder().glob(f"*-{dtype}.json"), key=lambda one: one.stat().st_mtime, default=path)
    data = read_calibration(path)
    rates = parsed_constants(data, str(path), dtype).rates
    title, memory = data.get("title"), data.get("memory_bytes")
    if not isinstance(title, str) or type(memory) is not int or not 0 < memory <= MOST_MEMORY_BYTES:
        raise FormatError(f"{path} must be written by llamalab calibrate; title or memory_bytes is missing or wrong")
    if data["device"] in HARDWARE:
        return HARDWARE[data["device"]]
    if not rates:
        raise UnavailableError(f"{path} must hold constants of some class; it holds none; calibrate again")
    # Products show the machine best; where they have no constants, whatever reached most.
    shown = [rates["gemm"]] if "gemm" in rates else list(rates.values())
    peaks = dict.fromkeys(PEAK_DTYPES) | {dtype: max(one.peak_flops_per_s or 0.0 for one in shown) or None}
    return HardwareSpec(
        data["device"], title, peaks, max(one.bandwidth_bytes_per_s for one in shown), memory, None, None, None, None,
        None, f"measured by llamalab calibrate on {data['made_on']}", measured=True,
    )  # fmt: skip


_LEAST_EFFICIENCY = 1e-9  # a division by less could be infinite


def _check(path: str, name: str, rate: Rates) -> None:
    # An efficiency above 1 would put a prediction below its bound.
    sound = all(_LEAST_EFFICIENCY <= one <= 1 for one in (rate.compute_efficiency, rate.memory_efficiency))
    sound &= rate.q >= 1 and rate.t0_s >= 0
    sound &= min(rate.bandwidth_bytes_per_s, rate.peak_flops_per_s or 1.0) >= 1 and rate.peak_flops_per_s != 0
    if not sound:
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
