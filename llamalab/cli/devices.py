"""The device of an option: one of the table, `all` of them, a user's JSON file, or this machine.

`cpu` is this machine's CPU and `this` the device calibrated last: both rest on llamalab calibrate.

The file has the keys of a row: name, peak_flops_per_s (by dtype), bandwidth_bytes_per_s, memory_bytes,
and optionally title, l2_bytes, interconnect_bytes_per_s, source. The output of `llamalab hardware
--format json`, for one device or many, is such a file too.
"""

import os
from functools import lru_cache

from llamalab.analytic.calibration_files import measured_spec
from llamalab.checks import MOST_MEMORY_BYTES
from llamalab.cli.find_model import split_paths
from llamalab.cli.output import note
from llamalab.errors import FormatError, InputError
from llamalab.files.inputs import read_object
from llamalab.hardware import CPU, HARDWARE, PEAK_DTYPES, HardwareSpec, device_family, find_hardware
from llamalab.startup.hints import Any

THIS = "this"
# The common variant of a chip's name, in order of preference: the boards of NVIDIA's HGX servers.
COMMON = ("a100-80gb-sxm", "a100-40gb-sxm", "h100-80gb-sxm", "v100-32gb")
OWN_KEYS = ("bandwidth_bytes_per_s", "memory_bytes", "name", "peak_flops_per_s")


def chosen_devices(text: str, dtype: str = "bf16") -> list[HardwareSpec]:
    """The devices of `--hardware`: names or JSON files with commas between them, or `all` of the table.

    `dtype` selects the calibration from which this machine's rows are read.
    """
    if text.strip().lower() == "all":
        return list(HARDWARE.values())
    names = split_paths(text)
    if not names:
        raise InputError(f"--hardware must name a device; got {text!r}; see llamalab hardware")
    return [spec for name in names for spec in _devices(name, dtype)]


def one_device(text: str, dtype: str = "bf16") -> HardwareSpec:
    """The device of `--hardware` where it may be one only. Raises InputError for several.

    >>> one_device("l4").name
    'l4-24gb'
    """
    specs = chosen_devices(text, dtype)
    if len(specs) > 1:
        raise InputError(f"--hardware must name one device here; got {len(specs)}: {text}; name one of them")
    return specs[0]


def _devices(name: str, dtype: str) -> list[HardwareSpec]:
    if name.lower() in (CPU, THIS):
        return [measured_spec(dtype, device=CPU if name.lower() == CPU else None)]
    return read_devices(name) if name.lower().endswith(".json") else [common_device(name)]


def common_device(name: str) -> HardwareSpec:
    """The device of a name; of several with that name the most common one, with a note.

    >>> common_device("h100").name
    'h100-80gb-sxm'
    """
    found = _common(name)
    if found is None:
        return find_hardware(name)
    note(f"{name} is taken for {found.name}, the common one; name another in full (see llamalab hardware)", once=True)
    return found


@lru_cache(maxsize=1024)  # a sweep asks for the same names thousands of times
def _common(name: str) -> HardwareSpec | None:
    """The common variant of a name that several devices have; None for any other name."""
    family = [spec.name for spec in device_family(name)]
    common = next((one for one in COMMON if one in family), None)
    return None if len(family) < 2 or common is None else find_hardware(common)


def read_devices(path: str | os.PathLike[str]) -> list[HardwareSpec]:
    """The device of a JSON file, or all devices of what `llamalab hardware --format json` printed.

    Raises MissingError where there is no file, FormatError where it holds no device.
    """
    source, data = os.fspath(path), read_object(path, "hardware file")
    if "devices" not in data:
        return [_device(data, source, source)]
    rows = data["devices"]
    if not isinstance(rows, list) or not rows:
        raise FormatError(f"devices of {source} must be a list with a device in it; got {type(rows).__name__}")
    return [_device(_row(row, f"{source}[{place}]"), f"{source}[{place}]", source) for place, row in enumerate(rows)]


def _row(printed: Any, where: str) -> dict[str, Any]:
    """The keys of a row from a printed device.

    A printed device has its peaks as a list, with the type that they accumulate in, and sources of unknown cells too.
    """
    if not isinstance(printed, dict):
        raise FormatError(f"{where} must be an object; got {type(printed).__name__}")
    peaks = printed.get("peaks")
    if not isinstance(peaks, list):
        return printed
    try:
        by_dtype = {one["dtype"]: one["flops_per_s"] for one in peaks}
    except (KeyError, TypeError) as error:
        raise FormatError(f"peaks of {where} must have a dtype and flops_per_s each; {error} is wrong") from None
    row = {key: value for key, value in printed.items() if key not in ("peaks", "cell_sources")}
    sources = printed.get("cell_sources", {})
    if isinstance(sources, dict):
        sources = {cell: source for cell, source in sources.items() if source is not None}
    return row | {"peak_flops_per_s": by_dtype, "sources": sources}


def _device(data: dict[str, Any], where: str, source: str) -> HardwareSpec:
    from llamalab.records.codec import (
        from_plain,  # imported here: it imports dataclasses, which a name of the table does not need
    )

    if not data.keys() >= set(OWN_KEYS):
        raise FormatError(f"{where} must be a JSON object with the keys {', '.join(OWN_KEYS)}")
    if unknown := data.keys() - set(HardwareSpec._fields):
        raise FormatError(f"{where} must have the keys of a hardware row only; got {', '.join(sorted(unknown))}")
    peaks = data["peak_flops_per_s"]
    if (
        not isinstance(peaks, dict)
        or not (any(peaks.values()) or data.get("kind") == "cpu")
        or not peaks.keys() <= set(PEAK_DTYPES)
    ):
        raise FormatError(f"peak_flops_per_s of {where} must map some of {', '.join(PEAK_DTYPES)} to FLOP/s")
    memory = data["memory_bytes"]
    open_ended = memory is None and data.get("kind") == "cpu"  # a CPU has no memory of its own
    given = {
        "name": data["name"],
        "title": data["name"],
        "source": source,
        **dict.fromkeys(_UNKNOWN),
        **data,
        "peak_flops_per_s": dict.fromkeys(PEAK_DTYPES) | peaks,
        "memory_bytes": int(memory) if isinstance(memory, float) and memory.is_integer() else memory,
        **({"memory_bytes": 1} if open_ended else {}),
    }
    # A measured device of a file is treated as a data sheet, without a calibration of this machine.
    spec: HardwareSpec = from_plain(HardwareSpec, given, where)._replace(measured=False)
    _check(spec, where)
    none: Any = None
    return spec._replace(memory_bytes=none) if open_ended else spec


_UNKNOWN = ("l2_bytes", "interconnect", "interconnect_bytes_per_s", "tdp_w", "clocking")


def _check(spec: HardwareSpec, where: str) -> None:
    """Raise FormatError for an empty name, and for a rate below one a second or a size below one byte."""
    if not spec.name.strip():
        raise FormatError(f"name of {where} must not be empty")
    numbers = spec._asdict() | spec.peak_flops_per_s | (spec.clocking._asdict() if spec.clocking else {})
    for name, value in numbers.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
            raise FormatError(f"{name} of {where} must be a positive number of at least 1; got {value!r}")
    if spec.memory_bytes > MOST_MEMORY_BYTES:
        raise FormatError(f"memory_bytes of {where} must be at most {MOST_MEMORY_BYTES:,}; got {spec.memory_bytes:,}")
