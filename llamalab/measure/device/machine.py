"""The machine under a torch device: its kind, and short queries of its properties.

Sizes are those this process may use: a container's limit counts, not the host's memory. Only `resolve_device` changes
state: the current device.
"""

import gc
from collections.abc import Callable
from functools import cache
from importlib import import_module

import torch

from llamalab.errors import InputError, MissingError
from llamalab.hardware import CPU, of_device
from llamalab.measure.device.base import Device
from llamalab.measure.device.kinds import DEVICE_KINDS
from llamalab.measure.timing.clock import Clock
from llamalab.model.host_memory import give_freed_memory_back
from llamalab.records.record import MeasuredMemory

PROBE_SHARE = 1 / 4  # of the free memory
MOST_PROBE_BYTES = {"host": 2**29, "accelerator": 2**32}  # of a host beside torch, for a small report in 1 GiB


def device_of(place: torch.device) -> Device:
    """The device behind a torch device, of a kind in DEVICE_KINDS. Raises InputError for another kind."""
    if place.type not in DEVICE_KINDS:
        raise InputError(f"a measured device must be one of {', '.join(DEVICE_KINDS)}; got {place.type}; try cpu")
    device: Device = _class_of(DEVICE_KINDS[place.type])(place)
    return device


@cache
def _class_of(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(import_module(module), name)
    return found


def resolve_device(name: str) -> torch.device:
    """The device of `auto` (an accelerator where there is one), of a kind or of one of several, made the current one.

    Events, graphs and kernels that name no device go to the current one of their kind.
    Raises InputError for another name, MissingError where there is no such device.
    """
    if name == "auto":
        name = next(kind for kind in reversed(DEVICE_KINDS) if _class_of(DEVICE_KINDS[kind]).count())  # type: ignore[attr-defined]
    kind, _, number = name.partition(":")
    if kind not in DEVICE_KINDS or (number and not number.isdecimal()) or (kind == CPU and ":" in name):
        raise InputError(f"device must be {_spellings()}; got {name!r}; try cpu")
    if kind == CPU:
        return torch.device(CPU)
    found = _class_of(DEVICE_KINDS[kind]).count()  # type: ignore[attr-defined]
    if int(number or 0) >= found:
        seen = f"torch sees {found} {kind.upper()} devices"
        raise MissingError(f"device {name} must be there; {seen}; try cpu, or llamalab doctor")
    place = torch.device(kind, int(number or 0))
    device_of(place).make_current()
    return place


def _spellings() -> str:
    """The spellings of devices: each kind, and one device of it by number."""
    *rest, last = [CPU, *(form for kind in DEVICE_KINDS if kind != CPU for form in (kind, f"{kind}:N"))]
    return f"{', '.join(['auto', *rest])} or {last}"


def device_name(place: torch.device) -> str:
    """The model of the CPU or GPU."""
    return device_of(place).name


def calibration_name(place: torch.device) -> str:
    """The name under which a calibration of this device is stored: its row of the hardware table, or its kind."""
    spec = of_device(device_name(place), memory_bytes(place)) if device_of(place).role == "accelerator" else None
    return spec.name if spec else place.type


def memory_bytes(place: torch.device) -> int:
    """All memory of the device that this process may use."""
    return device_of(place).memory_bytes()


def available_bytes(place: torch.device) -> int:
    """Memory of the device that is free for this process now."""
    return device_of(place).available_bytes()


def probe_budget_bytes(place: torch.device) -> int:
    """The most bytes that one probe of this device may hold at any time, all its tensors together.

    A quarter of the memory that is free now, at most 512 MiB of a host and 4 GiB of an accelerator.
    """
    return min(MOST_PROBE_BYTES[device_of(place).role], int(PROBE_SHARE * available_bytes(place)))


def cache_bytes(place: torch.device) -> int:
    """Size of the last-level cache as reported, 0 where it is not.

    It may be wrong on a virtual machine: llamalab.measure.device.cache_size measures it.
    """
    return device_of(place).cache_bytes()


def clock_for(place: torch.device, *, marks: int = 4096) -> Clock:
    """The clock of a device, ready for so many marks between two readings."""
    return device_of(place).clock(marks=marks)


def measure_peak(
    work: Callable[[], object], place: torch.device, *, resident_bytes: int | None = None
) -> MeasuredMemory:
    """The peak of one call above the memory held before. The call runs twice on a CPU.

    Call it once beforehand; otherwise the peak includes what libraries allocate at first use.
    """
    return device_of(place).peak_memory(work, resident_bytes=resident_bytes)


def release_memory(place: torch.device) -> None:
    """Free unused memory: the interpreter's cycles, the device's cached blocks, the host's heap."""
    gc.collect()
    device_of(place).release_memory()
    give_freed_memory_back()
