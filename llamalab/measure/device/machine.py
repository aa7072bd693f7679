"""The machine: its name, its memory and its caches, from Linux and CUDA; nothing set.

Sizes are those this process may use: a container's limit counts, not the host's memory.
"""

import gc
import os
import platform
from pathlib import Path

import torch

from llamalab.errors import InputError, MissingError
from llamalab.hardware import CPU, of_device
from llamalab.measure.device.control_groups import rooms
from llamalab.measure.device.kernel_files import field_of, number_of, text_of
from llamalab.model.host_memory import give_freed_memory_back
from llamalab.units import MEMORY_UNITS

ROOT = Path("/")
_SYSFS_UNITS = {"K": MEMORY_UNITS["KiB"], "M": MEMORY_UNITS["MiB"], "G": MEMORY_UNITS["GiB"]}
PROBE_SHARE = 1 / 4  # of the free memory
MOST_PROBE_BYTES = {"cpu": 2**29, "cuda": 2**32}  # on a host beside torch, and a small report in 1 GiB


def resolve_device(name: str) -> torch.device:
    """The device of `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

    Raises InputError for another name, MissingError where there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or (kind == "cpu" and number):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}; try cpu")
    if kind == "cpu":
        return torch.device("cpu")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= found:
        raise MissingError(f"device {name} must be there; torch sees {found} CUDA devices; try cpu, or llamalab doctor")
    return torch.device("cuda", int(number or 0))


def device_name(device: torch.device, *, root: Path = ROOT) -> str:
    """The model of the CPU or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return field_of(root / "proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def calibration_name(device: torch.device) -> str:
    """What a calibration of this device is kept under: its row of the hardware table, or its kind."""
    if device.type == "cpu":
        return CPU
    spec = of_device(device_name(device), memory_bytes(device))
    return spec.name if spec else device.type


def memory_bytes(device: torch.device, *, root: Path = ROOT) -> int:
    """All memory of the device that this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    total = _meminfo_bytes(root, "MemTotal")
    if total is None:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *(room.limit_bytes for room in rooms(root))])


def available_bytes(device: torch.device, *, root: Path = ROOT) -> int:
    """Memory of the device that is free for this process now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _meminfo_bytes(root, "MemAvailable")
    if free is None:
        free = memory_bytes(device, root=root)
    return min([free, *(room.free_bytes for room in rooms(root))])


def probe_budget_bytes(device: torch.device, *, root: Path = ROOT) -> int:
    """The most that one probe of this device may hold at any time, whatever its caches and shapes: all its tensors.

    A quarter of the memory that is free now, at most 512 MiB of a host and 4 GiB of a GPU.
    """
    return min(MOST_PROBE_BYTES[device.type], int(PROBE_SHARE * available_bytes(device, root=root)))


def cache_bytes(device: torch.device, *, root: Path = ROOT) -> int:
    """Size of the last-level cache as the system reports it, 0 where it does not tell.

    A virtual machine reports its host's, or anything: llamalab.measure.device.cache_size measures.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [text_of(path) for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    counts = [(number_of(size[:-1]), _SYSFS_UNITS.get(size[-1:])) for size in sizes]
    return max((count * unit for count, unit in counts if count is not None and unit is not None), default=0)


def _meminfo_bytes(root: Path, name: str) -> int | None:
    kilobytes = number_of((field_of(root / "proc/meminfo", name) or "").partition(" ")[0])
    return None if kilobytes is None else kilobytes * 1024


def release_memory(device: torch.device) -> None:
    """Give back what is no longer held: cycles to the interpreter, a GPU's cached blocks, freed memory of the host."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    give_freed_memory_back()
