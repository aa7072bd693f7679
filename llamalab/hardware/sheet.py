"""Data sheets of known devices: dense peaks, bandwidth, memory, a source per cell.

The rows are in devices.tsv. Peaks are dense (never 2:4 sparse) per second: floats accumulated in fp32,
int8 in int32; `fp32` is the vector units', all others the matrix units'. GB = 10**9. None is unknown, or
absent in the hardware: never a neighbour's value. Most sources quote the vendor's sheet, or name it as it is
commonly quoted; they are not the sheet.

peak = 2 * matrix_units * fma_per_clock * clock, 1 multiply-add = 2 FLOPs, in bf16 (fp16 before Ampere).
A CPU's peak is cores x FLOPs of its instruction set in a clock x base clock; its bandwidth, channels x speed.
"""

import os
from functools import cache

from llamalab.startup.hints import NamedTuple
from llamalab.startup.made_rows import MadeRows

PEAK_DTYPES = ("bf16", "fp16", "tf32", "fp32", "int8", "fp8")
_RATES = ("bandwidth_bytes_per_s", "interconnect_bytes_per_s", "fp16_in_fp16_flops_per_s", "max_clock_hz")
_WORDS = ("vendor", "kind", "interconnect", "bus", "isa", "note")
_COUNTS = (
    "memory_bytes",
    "reported_memory_bytes",
    "l2_bytes",
    "tdp_w",
    "cores_per_die",
    "multiprocessors",
    "memory_channels",
    "memory_mt_per_s",
)


class Clocking(NamedTuple):
    """The origin of a matrix peak: units, multiply-adds of one per clock, and the clock.

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
    """One device of one memory size, by its data sheet.

    `interconnect_bytes_per_s` counts both directions. `bus` is the link (llamalab.hardware.links) that more than two
    share where the interconnect is a bridge, which joins two. `device_names` are what its driver calls it.
    `fp16_in_fp16_flops_per_s` is the fp16 peak with fp16 accumulation where that is another one.
    `reported_memory_bytes` is what its driver tells, `max_clock_hz` the highest clock that it may run at.
    `multiprocessors` are the streaming multiprocessors of NVIDIA, the compute units of AMD.
    `cores_per_die` are the cores of a CPU that share a way to the memory: of a die, or of a cluster.
    `sources` names where each cell comes from, `*` for those that it does not list.
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
    multiprocessors: int | None = None
    bus: str | None = None
    memory_mt_per_s: int | None = None
    sources: dict[str, str] = {}  # noqa: RUF012  # never written

    def __hash__(self) -> int:
        """The hash of the identifying fields; peaks and sources are dicts, which only take part in comparison."""
        return hash((self.name, self.bandwidth_bytes_per_s, self.memory_bytes))

    @property
    def usable_memory_bytes(self) -> int | None:
        """The memory available to a program: the driver's figure where known, else the nominal one; None of a CPU."""
        if self.kind == "cpu":
            return None
        return self.memory_bytes if self.reported_memory_bytes is None else self.reported_memory_bytes

    @property
    def boost(self) -> float:
        """Highest clock over that of the peaks, which a bound must allow for; 1 where either is unknown."""
        if self.max_clock_hz is None or self.clocking is None:
            return 1.0
        return max(1.0, self.max_clock_hz / self.clocking.clock_hz)

    def source_of(self, cell: str) -> str | None:
        """The source of a cell; None for an unknown one."""
        part, _, dtype = cell.partition(".")
        value = getattr(self, part)
        if value is None or (dtype and value[dtype] is None):
            return None
        return self.sources.get(cell) or self.sources.get(part) or self.source


class _Sheet(NamedTuple):
    """The text of devices.tsv: sources by number, the place of each column, and the cells of each device by name."""

    sources: dict[str, str]
    places: dict[str, int]
    rows: dict[str, list[str]]


@cache
def _sheet() -> _Sheet:
    with open(os.path.join(os.path.dirname(__file__), "devices.tsv"), encoding="utf-8") as file:
        lines = [line.split("\t") for line in file.read().split("\n")[:-1]]
    sources = {cells[1]: cells[2] for cells in lines if cells[0] == "source"}
    columns, *rows = lines[len(sources) :]
    return _Sheet(sources, {name: place for place, name in enumerate(columns)}, {cells[0]: cells for cells in rows})


def _cells(*, cpus: bool) -> dict[str, list[str]]:
    kind = _sheet().places["kind"]
    return {name: cells for name, cells in _sheet().rows.items() if (cells[kind] == "cpu") == cpus}


def smallest_holding(needed_bytes: int) -> HardwareSpec | None:
    """The device with the least memory that still holds so many bytes, or None."""
    reported, nominal = (_sheet().places[name] for name in ("reported_memory_bytes", "memory_bytes"))
    memory = {name: int(cells[reported] or cells[nominal]) for name, cells in _cells(cpus=False).items()}
    holding = [name for name, held in memory.items() if held >= needed_bytes]
    return HARDWARE[min(holding, key=memory.__getitem__)] if holding else None


def _spec(row: list[str]) -> HardwareSpec:
    """A device from its cells; an empty one is unknown."""
    sources, places, _ = _sheet()
    cells = dict(zip(places, row, strict=True))
    named = dict(part.split("=") for part in cells["sources"].split(","))
    source_of = {cell: sources[number] for cell, number in named.items()}
    clock = [_number(cells[cell]) for cell in ("matrix_units", "fma_per_clock", "clock_hz")]
    return HardwareSpec(
        name=cells["name"],
        title=cells["title"],
        peak_flops_per_s={dtype: _rate(cells[dtype]) for dtype in PEAK_DTYPES},
        clocking=None if clock[0] is None else Clocking(int(clock[0]), int(clock[1] or 0), float(clock[2] or 0)),
        source=source_of.pop("*"),
        device_names=tuple(name for name in cells["device_names"].split("|") if name),
        memory_sizes_bytes=tuple(int(size) for size in cells["memory_sizes_bytes"].split(",") if size),
        sources=source_of,
        **{cell: _rate(cells[cell]) for cell in _RATES},  # type: ignore[arg-type]
        **{cell: _number(cells[cell]) for cell in _COUNTS},  # type: ignore[arg-type]
        **{cell: cells[cell] or None for cell in _WORDS},  # type: ignore[arg-type]
    )


def _number(text: str) -> int | None:
    return int(text) if text else None


def _rate(text: str) -> float | None:
    return float(text) if text else None


HARDWARE = MadeRows(_spec, lambda: _cells(cpus=False))
CPUS = MadeRows(_spec, lambda: _cells(cpus=True))
