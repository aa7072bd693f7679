"""The device that an option names: one of the table, `all` of them, the reader's own as a JSON file, or this machine.

`cpu` is this machine's CPU and `this` what was calibrated last: both rest on llamalab calibrate.

The file has the keys of a row: name, peak_flops_per_s (by dtype), bandwidth_bytes_per_s, memory_bytes,
and where they are known title, l2_bytes, interconnect_bytes_per_s, source.
"""

import json

from llamalab.analytic.constants import measured_spec
from llamalab.errors import FormatError, InputError, MissingError
from llamalab.hardware import CPU, HARDWARE, PEAK_DTYPES, HardwareSpec, find_hardware

THIS = "this"
OWN_KEYS = {"name", "peak_flops_per_s", "bandwidth_bytes_per_s", "memory_bytes"}


def chosen_devices(text: str, dtype: str = "bf16") -> list[HardwareSpec]:
    """The devices of `--hardware`: names or JSON files with commas between them, or `all` of the table.

    `dtype` is that of the calibration which this machine's own rows are read from.
    """
    if text.strip().lower() == "all":
        return list(HARDWARE.values())
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"--hardware must name a device; got {text!r}; see llamalab hardware")
    return [_device(name, dtype) for name in names]


def _device(name: str, dtype: str) -> HardwareSpec:
    if name.lower() in (CPU, THIS):
        return measured_spec(dtype, device=CPU if name.lower() == CPU else None)
    return read_device(name) if name.endswith(".json") else find_hardware(name)


def read_device(path: str) -> HardwareSpec:
    """A device from its JSON file. Raises MissingError where there is none, FormatError where it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        raise MissingError(f"a hardware file must exist; there is none at {path!r}") from None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} must be a readable JSON file; got {error}") from None
    if not isinstance(data, dict) or not data.keys() >= OWN_KEYS:
        raise FormatError(f"{path} must be a JSON object with the keys {', '.join(sorted(OWN_KEYS))}")
    if unknown := data.keys() - (set(HardwareSpec._fields) - {"measured", "sources"}):
        raise FormatError(f"{path} must have the keys of a hardware row only; got {', '.join(sorted(unknown))}")
    peaks = data["peak_flops_per_s"]
    if not isinstance(peaks, dict) or not peaks or not peaks.keys() <= set(PEAK_DTYPES):
        raise FormatError(f"peak_flops_per_s of {path} must map some of {', '.join(PEAK_DTYPES)} to FLOP/s")
    link = data.get("interconnect_bytes_per_s")
    for key, value in (*peaks.items(), *((k, data[k]) for k in ("bandwidth_bytes_per_s", "memory_bytes"))):
        _positive(path, key, value)
    if link is not None:
        _positive(path, "interconnect_bytes_per_s", link)
    empty = dict.fromkeys(("l2_bytes", "interconnect", "interconnect_bytes_per_s", "tdp_w", "clocking"))
    return HardwareSpec(**({"title": data["name"], "source": path} | empty | data))


def _positive(path: str, key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise FormatError(f"{key} of {path} must be a positive number; got {value!r}")
