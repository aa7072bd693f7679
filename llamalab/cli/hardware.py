"""`llamalab hardware [NAME]`: the data sheets of known devices."""

import argparse

from llamalab.cli.arguments import add_format
from llamalab.cli.devices import common_device
from llamalab.cli.output import Answer, Column, Table
from llamalab.errors import UnavailableError
from llamalab.formatting import format_bytes
from llamalab.hardware import ACCUMULATE, CPU, CPUS, HARDWARE, PEAK_DTYPES, HardwareSpec
from llamalab.plain_text import UNKNOWN
from llamalab.startup.hints import Any

SUMMARY = "data-sheet peaks, bandwidth and memory of known devices"
EXAMPLES = ("llamalab hardware", "llamalab hardware h200", "llamalab hardware a100-80gb-sxm --format json")
CALIBRATED = "bf16"  # the dtype of the calibration that the CPU's row is read from
_PEAK = "peak_{}_flops_per_s"
SOURCED = (
    "bandwidth_bytes_per_s",
    "memory_bytes",
    "reported_memory_bytes",
    "l2_bytes",
    "interconnect_bytes_per_s",
    "tdp_w",
    "clocking",
    "max_clock_hz",
    "fp16_in_fp16_flops_per_s",
    "cores_per_die",
    "memory_channels",
    "multiprocessors",
    "memory_mt_per_s",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab hardware`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one device, in full or shortened: h200, l4")
    parser.add_argument("--hardware", metavar="NAME", help="as NAME")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The table of devices, or the card of one."""
    name = args.name or args.hardware
    name = None if name is not None and name.strip().lower() == "all" else name
    specs = [*HARDWARE.values(), *CPUS.values(), *_this_cpu()] if name is None else [_find(name)]
    rows = [_row(spec) for spec in specs]
    table = Table(_COLUMNS, rows) if name is None else _card(specs[0], rows[0])
    lead = ["Dense peaks in TFLOP/s, floats accumulated in fp32 and int8 in int32; from data sheets."]
    if not specs[-1].measured:
        lead.append("This machine's CPU is measured: llamalab calibrate adds a row for it.")
    data = {"basis": "data sheet", "dense": True, "devices": [_object(spec) for spec in specs]}
    return Answer(data, tuple(lead), (table._replace(rows=rows) if args.format == "csv" else table,))


def _find(name: str) -> HardwareSpec:
    if name.strip().lower() != CPU:
        return common_device(name)
    from llamalab.analytic.calibration_files import measured_spec

    return measured_spec(CALIBRATED, device=CPU)


def _this_cpu() -> list[HardwareSpec]:
    """This machine's CPU, where it was calibrated."""
    try:
        return [_find(CPU)]
    except UnavailableError:  # none was made, or it found nothing
        return []


def _tera(value: float) -> str:
    return f"{value / 1e12:.5g}"


def _giga(value: float) -> str:
    return f"{value / 1e9:.5g}"


_PEAK_RANKS = {"tf32": 3, "fp32": 2, "int8": 1}  # of columns, where a terminal is too narrow for all
_COLUMNS = (
    Column("name", "name"),
    *(Column(_PEAK.format(dtype), dtype, _tera, _PEAK_RANKS.get(dtype, 0)) for dtype in PEAK_DTYPES),
    Column("bandwidth_bytes_per_s", "GB/s", _giga),
    Column("memory_bytes", "GB", _giga),
    Column("reported_memory_bytes", "GB by driver", _giga, 4),
    Column("tdp_w", "W", rank=4),
    Column("source", "source", rank=5),
)


def _row(spec: HardwareSpec) -> dict[str, Any]:
    """A device as flat raw values, for the table and CSV."""
    flat = _object(spec)
    peaks, clocking = flat.pop("peaks"), flat.pop("clocking")
    del flat["cell_sources"], flat["memory_sizes_bytes"]
    flat.update({_PEAK.format(peak["dtype"]): peak["flops_per_s"] for peak in peaks})
    flat.update(clocking or dict.fromkeys(("matrix_units", "fma_per_clock", "clock_hz")))
    return flat


def _object(spec: HardwareSpec) -> dict[str, Any]:
    """A device for JSON."""
    flat = spec._asdict()
    del flat["peak_flops_per_s"], flat["device_names"], flat["sources"]
    flat["memory_sizes_bytes"] = list(spec.memory_sizes_bytes)
    peaks = [
        {"dtype": dtype, "flops_per_s": peak, "accumulate": ACCUMULATE[dtype]}
        for dtype, peak in spec.peak_flops_per_s.items()
    ]
    cells = (*(f"peak_flops_per_s.{dtype}" for dtype in PEAK_DTYPES), *SOURCED)
    flat["cell_sources"] = {cell: spec.source_of(cell) for cell in cells}
    return flat | {"peaks": peaks, "clocking": spec.clocking._asdict() if spec.clocking else None}


def _card(spec: HardwareSpec, row: dict[str, Any]) -> Table:
    """One device, a line for each thing known of it."""
    shown = {
        "device": spec.title,
        **{f"{column.title} TFLOP/s": _or_dash(row, column) for column in _COLUMNS if column.title in PEAK_DTYPES},
        "fp16 in fp16": f"{_tera(spec.fp16_in_fp16_flops_per_s)} TFLOP/s" if spec.fp16_in_fp16_flops_per_s else UNKNOWN,
        "bandwidth": f"{_giga(spec.bandwidth_bytes_per_s)} GB/s" if spec.bandwidth_bytes_per_s else UNKNOWN,
        "memory": f"{_giga(spec.memory_bytes)} GB" if spec.memory_bytes else UNKNOWN,
        "memory by driver": f"{_giga(spec.reported_memory_bytes)} GB" if spec.reported_memory_bytes else UNKNOWN,
        "L2": format_bytes(spec.l2_bytes) if spec.l2_bytes else UNKNOWN,
        "interconnect": f"{spec.interconnect}, {_giga(spec.interconnect_bytes_per_s)} GB/s both directions"
        if spec.interconnect and spec.interconnect_bytes_per_s
        else UNKNOWN,
        "power": f"{spec.tdp_w} W" if spec.tdp_w else UNKNOWN,
        "bf16 ridge": _ridge(spec),
        "units × clock": _clock(spec),
        "highest clock": f"{spec.max_clock_hz / 1e6:g} MHz" if spec.max_clock_hz else UNKNOWN,
        "note": spec.note or UNKNOWN,
        "source": spec.source,
    }
    lines = [{"what": what, "value": value} for what, value in shown.items()]
    return Table((Column("what", spec.name), Column("value", "measured" if spec.measured else "data sheet")), lines)


def _or_dash(row: dict[str, Any], column: Column) -> str:
    return UNKNOWN if row[column.key] is None else column.show(row[column.key])


def _ridge(spec: HardwareSpec) -> str:
    peak = spec.peak_flops_per_s["bf16"]
    return f"{peak / spec.bandwidth_bytes_per_s:.0f} FLOP/byte" if peak and spec.bandwidth_bytes_per_s else UNKNOWN


def _clock(spec: HardwareSpec) -> str:
    if spec.clocking is None:
        return UNKNOWN
    units, fma, clock = spec.clocking
    tera = spec.clocking.flops_per_s / 1e12
    if spec.kind == "cpu":
        return f"{units} cores × {fma} FMA × 2 × {clock / 1e6:g} MHz = {tera:.1f} TFLOP/s in fp32"
    return f"{units} matrix units × {fma} FMA × 2 × {clock / 1e6:g} MHz = {tera:.1f} TFLOP/s"
