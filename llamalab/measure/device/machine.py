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
from llamalab.units import MEMORY_UNITS

ROOT = Path("/")
_SYSFS_UNITS = {"K": MEMORY_UNITS["KiB"], "M": MEMORY_UNITS["MiB"]}
_CGROUPS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


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
    return _field(root / "proc/cpuinfo", "model name") or platform.processor() or platform.machine()


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
    return min([total, *(limit for limit, _ in _cgroup_limits(root))])


def available_bytes(device: torch.device, *, root: Path = ROOT) -> int:
    """Memory of the device that is free for this process now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _meminfo_bytes(root, "MemAvailable")
    if free is None:
        free = memory_bytes(device, root=root)
    return min([free, *(limit - used for limit, used in _cgroup_limits(root))])


def cache_bytes(device: torch.device, *, root: Path = ROOT) -> int:
    """Size of the last-level cache; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [_text(path) for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) * _SYSFS_UNITS[size[-1]] for size in sizes if size[-1:] in _SYSFS_UNITS), default=0)


def _cgroup_limits(root: Path) -> list[tuple[int, int]]:
    """Limit and present use of the control group, where there is a limit."""
    pairs = [(_text(root / limit), _text(root / used)) for limit, used in _CGROUPS]
    return [(int(limit), int(used)) for limit, used in pairs if limit.isdecimal() and used.isdecimal()]


def _meminfo_bytes(root: Path, name: str) -> int | None:
    value = _field(root / "proc/meminfo", name)
    return int(value.split()[0]) * 1024 if value else None


def _field(path: Path, name: str) -> str | None:
    """The first `name : value` line of a /proc file."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def release_memory(device: torch.device) -> None:
    """Give back what is no longer held: cycles to the interpreter, a GPU's cached blocks to the GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
