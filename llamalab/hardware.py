"""Data sheets of known devices: dense peaks, bandwidth, memory of known devices, a source per cell.

The rows are in devices.tsv. Peaks are dense (never 2:4 sparse) per second: floats accumulated in fp32,
int8 in int32; `fp32` is the vector units', all others the matrix units'. GB = 10**9. None is unknown, or
absent in the hardware: never a neighbour's value. Most sources quote the vendor's sheet, or name it as it is
commonly quoted; they are not the sheet.

peak = 2 * matrix_units * fma_per_clock * clock, 1 multiply-add = 2 FLOPs, in bf16 (fp16 before Ampere).
A CPU's row is cores x what its instruction set does in a clock x base clock, and memory channels x speed.
"""

import os
import re
from typing import NamedTuple

from llamalab.errors import InputError, UnknownNameError
from llamalab.hardware_names import spelled_name

PEAK_DTYPES = ("bf16", "fp16", "tf32", "fp32", "int8", "fp8")
CPU = "cpu"  # this machine's: no row of the table, it is always measured
ACCUMULATE = {dtype: "int32" if dtype == "int8" else "fp32" for dtype in PEAK_DTYPES}
KINDS = ("datacentre", "workstation", "consumer", "embedded", "apple", "cpu")


class Clocking(NamedTuple):
    """Where a matrix peak comes from: units, multiply-adds of one per clock, and the clock.

    Of a CPU the units are cores, and the multiply-adds those of fp32.
    """

    matrix_units: int
    fma_per_clock: int
    clock_hz: float

    @property
    def flops_per_s(self) -> float:
        """The peak that units and clock give."""
        return 2.0 * self.matrix_units * self.fma_per_clock * self.clock_hz


class HardwareSpec(NamedTuple):
    """One device of one memory size, as its data sheet has it.

    `interconnect_bytes_per_s` counts both directions. `device_names` are what its driver calls it.
    `fp16_in_fp16_flops_per_s` is the fp16 peak with fp16 accumulation where that is another one.
    `reported_memory_bytes` is what its driver tells, `max_clock_hz` the highest clock that it may run at.
    `sources` names where each cell comes from, `*` for those that it does not list.
    `cores_per_die` are the cores of a CPU that share a way to the memory: of a die, or of a cluster.
    A `measured` one has no data sheet: peaks and bandwidth are what this machine reached.
    """

    name: str
    title: str
    peak_flops_per_s: dict[str, float | None]
    bandwidth_bytes_per_s: float
    memory_bytes: int
    l2_bytes: int | None
    interconnect: str | None
    interconnect_bytes_per_s: float | None
    tdp_w: int | None
    clocking: Clocking | None
    source: str
    device_names: tuple[str, ...] = ()
    note: str | None = None
    fp16_in_fp16_flops_per_s: float | None = None
    measured: bool = False
    vendor: str | None = None
    kind: str | None = None
    reported_memory_bytes: int | None = None
    max_clock_hz: float | None = None
    memory_sizes_bytes: tuple[int, ...] = ()
    isa: str | None = None
    cores_per_die: int | None = None
    memory_channels: int | None = None
    memory_mt_per_s: int | None = None
    sources: dict[str, str] = {}  # noqa: RUF012  # never written

    @property
    def usable_memory_bytes(self) -> int | None:
        """What a program may hold: the driver's figure where it is known, else the nominal one; None of a CPU."""
        if self.kind == "cpu":
            return None
        return self.memory_bytes if self.reported_memory_bytes is None else self.reported_memory_bytes

    @property
    def boost(self) -> float:
        """Highest clock over that of the peaks: what a bound must allow for; 1 where either is unknown."""
        if self.max_clock_hz is None or self.clocking is None:
            return 1.0
        return max(1.0, self.max_clock_hz / self.clocking.clock_hz)

    def source_of(self, cell: str) -> str | None:
        """Where a cell comes from; None for one that is unknown."""
        part, _, dtype = cell.partition(".")
        value = getattr(self, part)
        if value is None or (dtype and value[dtype] is None):
            return None
        return self.sources.get(cell) or self.sources.get(part) or self.source


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
    wanted, known = name.strip().lower(), HARDWARE | CPUS
    if wanted in known:
        return [known[wanted]]
    if found := _other_size(wanted):
        return [found]
    if not wanted:
        return []
    wish, rows = spelled_name(wanted), [(spelled_name(spec.name), spec) for spec in known.values()]
    for one in (wish, wish._replace(form=None)) if wish.form == "sxm" else (wish,):  # the only form has no name
        chip = one._replace(cores=None, memory_gb=None)
        sold = {_chip(spec.name) for parts, spec in rows if spec.memory_sizes_bytes and chip.may_mean(parts)}
        family = [spec for parts, spec in rows if not sold and one.may_mean(parts)]
        for name in sold:
            cores, memory = (f"-{one.cores}core" if one.cores else ""), (f"-{one.memory_gb}gb" if one.memory_gb else "")
            family += [found] if (found := _other_size(name + cores + memory)) else []
        if family:
            return family
    return [spec for spec in known.values() if wanted in map(str.lower, spec.device_names)]


def _other_size(name: str) -> HardwareSpec | None:
    """The row of a chip with the memory and the cores that a name asks for."""
    parts = re.fullmatch(r"(?P<chip>.+?)(?:-(?P<cores>\d+)core)?(?:-(?P<gb>\d+)gb)?", name)
    if parts is None:
        return None
    chip, cores = parts["chip"], int(parts["cores"] or 0)
    if chip in _GENERATIONS and cores and parts["gb"] is None:
        return _with_cores(CPUS[_GENERATIONS[chip]], name, cores)
    rows = [spec for spec in HARDWARE.values() if spec.memory_sizes_bytes and _chip(spec.name) == chip]
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
    """Whether a device is a row of the table, and not merely named like one."""
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


def smallest_holding(needed_bytes: int) -> HardwareSpec | None:
    """The device with the least memory that still holds so many bytes, or None."""
    holding = [spec for spec in HARDWARE.values() if (spec.usable_memory_bytes or 0) >= needed_bytes]
    return min(holding, key=lambda spec: spec.usable_memory_bytes or 0, default=None)


def _row(cells: dict[str, str], sources: dict[str, str]) -> HardwareSpec:
    """A row from its text; an empty cell is unknown."""
    named = dict(part.split("=") for part in cells["sources"].split(","))
    told = {cell: sources[number] for cell, number in named.items()}
    clock = [_number(cells[cell]) for cell in ("matrix_units", "fma_per_clock", "clock_hz")]
    return HardwareSpec(
        name=cells["name"],
        title=cells["title"],
        peak_flops_per_s={dtype: _rate(cells[dtype]) for dtype in PEAK_DTYPES},
        clocking=None if clock[0] is None else Clocking(int(clock[0]), int(clock[1] or 0), float(clock[2] or 0)),
        source=told.pop("*"),
        device_names=tuple(name for name in cells["device_names"].split("|") if name),
        memory_sizes_bytes=tuple(int(size) for size in cells["memory_sizes_bytes"].split(",") if size),
        sources=told,
        **{cell: _rate(cells[cell]) for cell in _RATES},  # type: ignore[arg-type]
        **{cell: _number(cells[cell]) for cell in _COUNTS},  # type: ignore[arg-type]
        **{cell: cells[cell] or None for cell in _WORDS},  # type: ignore[arg-type]
    )


def _number(text: str) -> int | None:
    return int(text) if text else None


def _rate(text: str) -> float | None:
    return float(text) if text else None


_GB = 10**9
_RATES = ("bandwidth_bytes_per_s", "interconnect_bytes_per_s", "fp16_in_fp16_flops_per_s", "max_clock_hz")
_WORDS = ("vendor", "kind", "interconnect", "isa", "note")
_COUNTS = (
    "memory_bytes",
    "reported_memory_bytes",
    "l2_bytes",
    "tdp_w",
    "cores_per_die",
    "memory_channels",
    "memory_mt_per_s",
)
_GENERATIONS = {  # a CPU of each, whose clock and memory stand for the generation
    "xeon-icx": "xeon-8380",
    "xeon-spr": "xeon-8480",
    "xeon-emr": "xeon-8592",
    "xeon-gnr": "xeon-6980p",
    "epyc-rome": "epyc-7742",
    "epyc-milan": "epyc-7763",
    "epyc-genoa": "epyc-9654",
    "epyc-turin": "epyc-9755",
}


def _tables() -> tuple[dict[str, HardwareSpec], dict[str, HardwareSpec]]:
    """GPUs and CPUs of devices.tsv: lines of sources by number, the names of the columns, a line per device."""
    with open(os.path.join(os.path.dirname(__file__), "devices.tsv"), encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    sources = {cells[1]: cells[2] for cells in lines if cells[0] == "source"}
    columns, *rows = lines[len(sources) :]
    specs = [_row(dict(zip(columns, cells, strict=True)), sources) for cells in rows]
    known = {spec.name: spec for spec in specs}
    cpus = {name: spec for name, spec in known.items() if spec.kind == "cpu"}
    return {name: spec for name, spec in known.items() if name not in cpus}, cpus


HARDWARE, CPUS = _tables()
# The devices that a page compares with: of each generation and market one or two, as all would make it unreadable.
WIDELY_USED = (
    "a100-40gb-sxm", "a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb-sxm", "b200-180gb", "l4-24gb", "l40s-48gb",
    "a10-24gb", "rtx3060-12gb", "rtx3090-24gb", "rtx4090-24gb", "rtx5090-32gb", "mi250x-128gb", "mi300x-192gb",
    "rx7900xtx-24gb", "apple-m2ultra-76core-192gb", "apple-m4max-40core-128gb",
)  # fmt: skip
