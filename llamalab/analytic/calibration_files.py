"""Constants measured on a machine, as `llamalab calibrate` stores them: a JSON file a device and dtype."""

import os
from collections.abc import Mapping, Sequence

from llamalab.analytic import grades
from llamalab.analytic.rate_constants import CLASSES, Constants, Range
from llamalab.analytic.roofline import Rates
from llamalab.checks import MOST_MEMORY_BYTES
from llamalab.choices import PHASES
from llamalab.errors import FormatError, InputError, UnavailableError
from llamalab.files.inputs import read_object
from llamalab.hardware import CPU, HARDWARE, PEAK_DTYPES, HardwareSpec
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CALIBRATION_SCHEMA = 1
UNCHECKED_SPREAD = 1.0  # spread without checked passes of a phase
POOR_SPREAD = 0.5  # least spread of a calibration with the grade poor


def folder() -> "Path":
    """The folder of this machine's calibrations."""
    from pathlib import Path  # here, as json below: a prediction from shipped constants needs neither

    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(base) / "llamalab"


def default_path(device: str, dtype: str, weight_dtype: str | None = None) -> "Path":
    """The file of one device's constants in a dtype on this machine; another one for quantised weights."""
    return folder() / f"{device}-{dtype}{f'-{weight_dtype}-weights' if weight_dtype else ''}.json"


def constants_to_json(
    device: str, dtype: str, made_on: str, rates: Mapping[str, Rates], validation: Mapping[str, Any], **more: Any
) -> str:
    """Calibrated constants as text for default_path.

    `validation` holds `prefill_error` and `decode_error`, mean absolute relative errors on shapes that were not fitted,
    None where there were none, and `points`, those shapes. `more` is stored unchanged: `title` and `memory_bytes` of
    the machine among it, `grade`, and `fitted`, the range of fitted work by class.
    """
    import json

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


def read_calibration(path: "Path") -> dict[str, Any]:
    """The JSON of a file that to_json wrote, unchecked. Raises MissingError where there is none, FormatError."""
    return read_object(
        path, "file of calibrated constants", hint="run llamalab calibrate first (--quick takes ten seconds)"
    )


def read_constants(path: "Path", dtype: str) -> Constants:
    """Constants from a file that to_json wrote. Raises MissingError, FormatError, or InputError for another dtype."""
    return parsed_constants(read_calibration(path), str(path), dtype)


def parsed_constants(data: Mapping[str, Any], source: str, dtype: str) -> Constants:
    """Constants from what read_calibration gives. Raises FormatError, or InputError for another dtype.

    The interval is never narrower than rounds of the same pass were apart: beside other work so may be the next run.
    """
    from llamalab.records.codec import (
        from_plain,  # imported here: it imports dataclasses, which a tier without a file does not need
    )

    try:
        if (data["kind"], data["schema_version"]) != ("llamalab-constants", CALIBRATION_SCHEMA):
            raise FormatError(
                f"{source} must hold llamalab-constants of schema {CALIBRATION_SCHEMA}; got {data['kind']!r}"
            )
        rates = from_plain(dict[str, Rates], data["classes"], f"classes of {source}")
        errors = [from_plain(float | None, data["validation"][f"{phase}_error"], f"{phase}_error") for phase in PHASES]
        for key in ("device", "dtype", "made_on"):
            from_plain(str, data[key], f"{key} of {source}")
        made_for, grade = data["dtype"], grades.read_grade(data.get("grade"))
        scatter = from_plain(float | None, data.get("spread_between_rounds"), f"spread_between_rounds of {source}")
        spread = max(_spread(errors), scatter or 0.0, POOR_SPREAD if grade.name == "poor" else 0.0)
        said = f" ({grade.words})" if grade.name in ("poor", "fair") else ""
        basis = f"calibrated on {data['device']} {data['made_on']}{said}"
        for name, rate in rates.items():
            _check(source, name, rate)
        kinds = {"collective"} | {
            name.partition("_")[0] for name in CLASSES
        }  # a calibration may have several modes of a kind
        if odd := {name for name in rates if name.partition("_")[0] not in kinds}:
            raise FormatError(
                f"{source} must hold classes of {', '.join(sorted(CLASSES))}; got {', '.join(sorted(odd))}"
            )
        if any(error is not None and error < 0 for error in errors):
            raise FormatError(f"{source} must hold errors of at least 0; got {errors}")
        ranges = _ranges(from_plain(dict[str, dict[str, Any]], data.get("fitted") or {}, f"fitted of {source}"))
    except (KeyError, TypeError) as error:
        raise FormatError(f"{source} must be written by llamalab calibrate; {error} is wrong") from None
    if made_for != dtype:
        raise InputError(f"constants of {source} must be for {dtype}; they are for {made_for}; calibrate with {dtype}")
    return Constants(rates, basis, spread, grade=grade, ranges=ranges)


def _spread(errors: Sequence[float | None]) -> float:
    """Twice the larger error of the checked passes; more where a phase was not checked."""
    return max(UNCHECKED_SPREAD if error is None else 2.0 * error for error in errors)


def _ranges(fitted: Mapping[str, Any]) -> dict[str, Range]:
    """The range of fitted work of each class; empty in older files."""
    with_work = {name: one for name, one in fitted.items() if "bytes" in one}
    return {name: Range(_pair(one["flops"]), _pair(one["bytes"])) for name, one in with_work.items()}


def _pair(values: Any) -> tuple[int, int]:
    if not isinstance(values, list) or [type(value) for value in values] != [int, int]:
        raise TypeError(f"a range of {values!r}")
    return values[0], values[1]


def measured_spec(dtype: str, *, device: str | None = None) -> HardwareSpec:
    """This machine as a row of hardware, from its calibration: of `device`, or of the latest one.

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
    # Products are the most reliable; without constants for them, the highest rate of all classes is used.
    shown = [rates["gemm"]] if "gemm" in rates else list(rates.values())
    peaks = dict.fromkeys(PEAK_DTYPES) | {dtype: max(one.peak_flops_per_s or 0.0 for one in shown) or None}
    return HardwareSpec(
        name=data["device"],
        title=title,
        peak_flops_per_s=peaks,
        bandwidth_bytes_per_s=max(one.bandwidth_bytes_per_s for one in shown),
        memory_bytes=memory,
        l2_bytes=None,
        interconnect=None,
        interconnect_bytes_per_s=None,
        tdp_w=None,
        clocking=None,
        source=f"measured by llamalab calibrate on {data['made_on']}",
        measured=True,
    )


_LEAST_EFFICIENCY = 1e-9  # a division by less could be infinite


def _check(path: str, name: str, rate: Rates) -> None:
    # An efficiency above 1 would put a prediction below its bound.
    sound = all(_LEAST_EFFICIENCY <= one <= 1 for one in (rate.compute_efficiency, rate.memory_efficiency))
    sound &= rate.q >= 1 and rate.t0_s >= 0
    sound &= min(rate.bandwidth_bytes_per_s, rate.peak_flops_per_s or 1.0) >= 1 and rate.peak_flops_per_s != 0
    if not sound:
        raise FormatError(f"{path} must hold efficiencies in (0, 1], q >= 1 and positive rates; {name} has {rate}")
