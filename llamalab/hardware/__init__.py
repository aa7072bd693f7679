"""Known devices by the names that people and drivers use, and the smallest that holds a given memory.

Belongs here: `devices.tsv` (data sheets, a row a device) and `sheet` (its reader), `names` (spellings of device
names), `links` (NVLink, PCIe, networks). Does not belong here: measured rates of a machine (records).
May import: errors, startup.
"""

import re
from functools import lru_cache

from llamalab.errors import InputError, UnknownNameError
from llamalab.hardware.names import spelled_name
from llamalab.hardware.sheet import CPUS, HARDWARE, PEAK_DTYPES, Clocking, HardwareSpec, smallest_holding

__all__ = [
    "ACCUMULATE",
    "CPU",
    "CPUS",
    "HARDWARE",
    "KINDS",
    "PEAK_DTYPES",
    "WIDELY_USED",
    "Clocking",
    "HardwareSpec",
    "device_family",
    "find_hardware",
    "is_listed",
    "of_device",
    "smallest_holding",
]

CPU = "cpu"  # this machine's: no row of the table, it is always measured
ACCUMULATE = {dtype: "int32" if dtype == "int8" else "fp32" for dtype in PEAK_DTYPES}
KINDS = ("datacentre", "workstation", "consumer", "embedded", "apple", "cpu")
_GB = 10**9
_GENERATIONS = {  # one CPU of each generation, whose clock and memory represent it
    "xeon-icx": "xeon-8380",
    "xeon-spr": "xeon-8480",
    "xeon-emr": "xeon-8592",
    "xeon-gnr": "xeon-6980p",
    "epyc-rome": "epyc-7742",
    "epyc-milan": "epyc-7763",
    "epyc-genoa": "epyc-9654",
    "epyc-turin": "epyc-9755",
}


# The devices on a page: one or two of each generation and market, since all would be unreadable.
WIDELY_USED = (
    "a100-40gb-sxm",
    "a100-80gb-sxm",
    "h100-80gb-sxm",
    "h200-141gb-sxm",
    "b200-180gb",
    "l4-24gb",
    "l40s-48gb",
    "a10-24gb",
    "rtx3060-12gb",
    "rtx3090-24gb",
    "rtx4090-24gb",
    "rtx5090-32gb",
    "mi250x-128gb",
    "mi300x-192gb",
    "rx7900xtx-24gb",
    "apple-m2ultra-76core-192gb",
    "apple-m4max-40core-128gb",
)


def find_hardware(name: str) -> HardwareSpec:
    """The device of that name, as people and drivers write it; `h200` will do where only one device has it.

    A chip that is sold with several memories or core counts is found by either: `apple-m3max-40core-64gb`,
    `apple-m1max`; a CPU by generation and cores: `xeon-spr-32core`.

    >>> find_hardware("h200").name, find_hardware("apple-m1max-32gb").memory_bytes
    ('h200-141gb-sxm', 32000000000)
    >>> find_hardware("NVIDIA GeForce RTX 4090").name
    'rtx4090-24gb'
    """
    family = device_family(name)
    if len(family) == 1:
        return family[0]
    if family:
        names = ", ".join(spec.name for spec in family)
        raise InputError(f"hardware must name one device; {name!r} is {len(family)} of them; choose from {names}")
    raise UnknownNameError("hardware", name, HARDWARE | CPUS)


def device_family(name: str) -> list[HardwareSpec]:
    """All devices that a name may mean: one for a full name, none for an unknown one."""
    return list(_family(name.strip().lower()))


@lru_cache(maxsize=1024)  # of a sweep, where each name serves thousands of predictions
def _family(wanted: str) -> tuple[HardwareSpec, ...]:
    for table in (HARDWARE, CPUS):
        if wanted in table:
            return (table[wanted],)
    if found := _other_size(wanted):
        return (found,)
    return tuple(_spelled(wanted)) if wanted else ()


def _spelled(wanted: str) -> list[HardwareSpec]:
    """The devices whose names differ in spelling alone, or whose drivers report the name."""
    wish, rows = spelled_name(wanted), [(spelled_name(name), name) for name in (*HARDWARE, *CPUS)]
    for one in (wish, wish._replace(form=None)) if wish.form == "sxm" else (wish,):  # the only form has no name
        chip = one._replace(cores=None, memory_gb=None)
        sold = {_chip(name) for parts, name in rows if chip.may_mean(parts) and _row(name).memory_sizes_bytes}
        family = [_row(name) for parts, name in rows if not sold and one.may_mean(parts)]
        for name in sold:
            cores, memory = (f"-{one.cores}core" if one.cores else ""), (f"-{one.memory_gb}gb" if one.memory_gb else "")
            family += [found] if (found := _other_size(name + cores + memory)) else []
        if family:
            return family
    return [spec for _, name in rows if wanted in map(str.lower, (spec := _row(name)).device_names)]


def _row(name: str) -> HardwareSpec:
    return HARDWARE[name] if name in HARDWARE else CPUS[name]


def _other_size(name: str) -> HardwareSpec | None:
    """The row of a chip with the memory and the cores that a name asks for."""
    parts = re.fullmatch(r"(?P<chip>.+?)(?:-(?P<cores>\d+)core)?(?:-(?P<gb>\d+)gb)?", name)
    if parts is None:
        return None
    chip, cores = parts["chip"], int(parts["cores"] or 0)
    if chip in _GENERATIONS and parts["gb"] is None:
        spec = CPUS[_GENERATIONS[chip]]
        return _with_cores(spec, name, cores) if cores else spec
    rows = [HARDWARE[row] for row in HARDWARE if row.startswith(chip) and _chip(row) == chip]
    rows = [spec for spec in rows if spec.memory_sizes_bytes]
    rows = [spec for spec in rows if spec.clocking and cores in (0, spec.clocking.matrix_units)]
    if not rows:
        return None
    spec = max(rows, key=lambda row: row.clocking.matrix_units if row.clocking else 0)
    if parts["gb"] is None:
        return spec
    memory = int(parts["gb"]) * _GB
    return spec._replace(name=name, memory_bytes=memory) if memory in spec.memory_sizes_bytes else None


def _chip(name: str) -> str:
    return re.sub(r"(-\d+core)?-\d+gb$", "", name)


def _with_cores(spec: HardwareSpec, name: str, cores: int) -> HardwareSpec:
    """The same generation of a CPU with another number of cores, at the same clock and memory."""
    assert spec.clocking is not None
    share = cores / spec.clocking.matrix_units
    peaks = {dtype: None if peak is None else peak * share for dtype, peak in spec.peak_flops_per_s.items()}
    title, clocking = f"{spec.title} with {cores} cores", spec.clocking._replace(matrix_units=cores)
    return spec._replace(name=name, title=title, peak_flops_per_s=peaks, clocking=clocking, l2_bytes=None, tdp_w=None)


def is_listed(spec: HardwareSpec) -> bool:
    """Whether a device is a row of the table; the name alone does not decide."""
    row = HARDWARE.get(spec.name)
    return row is not None and spec._replace(device_names=row.device_names) == row


def of_device(device_name: str, memory_bytes: int) -> HardwareSpec | None:
    """The row for what a driver reports, matched by exact name and by memory to 10 %; None for any other.

    >>> of_device("NVIDIA H200", 150_754_820_096).name
    'h200-141gb-sxm'
    """
    for spec in HARDWARE.values():
        if device_name in spec.device_names and abs(memory_bytes / (spec.usable_memory_bytes or 1) - 1) <= 0.1:
            return spec
    return None
