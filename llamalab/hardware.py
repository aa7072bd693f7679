"""Data sheets of known devices: dense peaks, bandwidth, memory of known devices, a source per row.

Peaks are dense (never 2:4 sparse) per second: floats accumulated in fp32, int8 in int32; `fp32` is
the vector units', all others the matrix units'. GB = 10**9. None is unknown, or absent in the
hardware: never a neighbour's value. Most sources quote the vendor's sheet; they are not the sheet.

peak = 2 * matrix_units * fma_per_clock * clock, 1 multiply-add = 2 FLOPs, in bf16 (fp16 before Ampere).
"""

from collections.abc import Iterable
from typing import NamedTuple

from llamalab.errors import InputError, UnknownNameError

PEAK_DTYPES = ("bf16", "fp16", "tf32", "fp32", "int8", "fp8")
CPU = "cpu"  # no row of the table: a CPU has no data sheet, it is always measured
ACCUMULATE = {dtype: "int32" if dtype == "int8" else "fp32" for dtype in PEAK_DTYPES}


class Clocking(NamedTuple):
    """Where a matrix peak comes from: units, multiply-adds of one per clock, and the clock."""

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


def find_hardware(name: str) -> HardwareSpec:
    """The device of that name; a prefix such as `h200` will do where only one device has it.

    >>> find_hardware("h200").name
    'h200-141gb-sxm'
    """
    wanted = name.strip().lower()
    if wanted in HARDWARE:
        return HARDWARE[wanted]
    family = [spec for spec in HARDWARE.values() if spec.name.startswith(f"{wanted}-")]
    if len(family) == 1:
        return family[0]
    if family:
        names = ", ".join(spec.name for spec in family)
        raise InputError(f"hardware must name one device; {name!r} is {len(family)} of them; choose from {names}")
    raise UnknownNameError("hardware", name, HARDWARE)


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
        if device_name in spec.device_names and abs(memory_bytes / spec.memory_bytes - 1) <= 0.1:
            return spec
    return None


def smallest_holding(needed_bytes: int) -> HardwareSpec | None:
    """The device with the least memory that still holds so many bytes, or None."""
    holding = [spec for spec in HARDWARE.values() if spec.memory_bytes >= needed_bytes]
    return min(holding, key=lambda spec: spec.memory_bytes, default=None)


def _peaks(*tera: float | None) -> dict[str, float | None]:
    """Peaks in TFLOP/s in the order of PEAK_DTYPES."""
    return {dtype: None if peak is None else peak * 1e12 for dtype, peak in zip(PEAK_DTYPES, tera, strict=True)}


def _by_name(specs: Iterable[HardwareSpec]) -> dict[str, HardwareSpec]:
    return {spec.name: spec for spec in specs}


_GB, _MIB = 10**9, 2**20
_NVLINK, _PCIE3, _PCIE4 = "NVLink", "PCIe 3 x16", "PCIe 4 x16"
_A100 = _peaks(312, 312, 156, 19.5, 624, None)
_A100_CLOCK = Clocking(432, 256, 1410e6)
_HOPPER = _peaks(989.4, 989.4, 494.7, 66.9, 1978.9, 1978.9)
_HOPPER_CLOCK = Clocking(528, 512, 1830e6)
_V100 = _peaks(None, 125, None, 15.7, None, None)
_V100_CLOCK = Clocking(640, 64, 1530e6)
_A100_SHEET = "NVIDIA A100 data sheet, as quoted by glennklockwood.com/garden/processors/a100"
_H100_SHEET = "NVIDIA H100 data sheet, as quoted by glennklockwood.com/garden/processors/h100"
_STAS = "github.com/stas00/ml-engineering compute/accelerator"
_VOLTA = "sysrqmts.com; forums.developer.nvidia.com/t/244727 for units and clock"

HARDWARE: dict[str, HardwareSpec] = _by_name(
    (
        HardwareSpec(
            "a100-40gb-sxm", "NVIDIA A100 SXM4 40 GB", _A100, 1555e9, 40 * _GB, 40 * _MIB, _NVLINK, 600e9, 400,
            _A100_CLOCK, _A100_SHEET, ("NVIDIA A100-SXM4-40GB",),
        ),
        HardwareSpec(
            "a100-40gb-pcie", "NVIDIA A100 PCIe 40 GB", _A100, 1555e9, 40 * _GB, 40 * _MIB, "NVLink bridge", 600e9, 250,
            _A100_CLOCK, "sysrqmts.com nvidia-a100-pcie; int8 from " + _STAS, ("NVIDIA A100-PCIE-40GB",),
        ),
        HardwareSpec(
            "a100-80gb-sxm", "NVIDIA A100 SXM4 80 GB", _A100, 2039e9, 80 * _GB, 40 * _MIB, _NVLINK, 600e9, 400,
            _A100_CLOCK, _A100_SHEET, ("NVIDIA A100-SXM4-80GB",),
        ),
        HardwareSpec(
            "a100-80gb-pcie", "NVIDIA A100 PCIe 80 GB", _A100, 1935e9, 80 * _GB, 40 * _MIB, "NVLink bridge", 600e9, 300,
            _A100_CLOCK, "thundercompute.com A100 specification; " + _STAS, ("NVIDIA A100 80GB PCIe",),
        ),
        HardwareSpec(
            "h100-80gb-sxm", "NVIDIA H100 SXM5 80 GB", _HOPPER, 3350e9, 80 * _GB, 50 * _MIB, _NVLINK, 900e9, 700,
            _HOPPER_CLOCK, _H100_SHEET, ("NVIDIA H100 80GB HBM3",),
        ),
        HardwareSpec(
            "h100-80gb-pcie", "NVIDIA H100 PCIe 80 GB", _peaks(756, 756, 378, 51, 1513, 1513), 2000e9, 80 * _GB,
            50 * _MIB, "NVLink bridge", 600e9, 350, Clocking(456, 512, 1620e6),
            "archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html (sparse figures halved)", ("NVIDIA H100 PCIe",),
        ),
        HardwareSpec(
            "h200-141gb-sxm", "NVIDIA H200 SXM5 141 GB", _HOPPER, 4800e9, 141 * _GB, 50 * _MIB, _NVLINK, 900e9, 700,
            _HOPPER_CLOCK, _STAS + ", note 4; TensorRT-LLM H200launch.md", ("NVIDIA H200",),
        ),
        HardwareSpec(
            "gh200-96gb", "NVIDIA GH200 with 96 GB HBM3", _HOPPER, 4000e9, 96 * _GB, None, _NVLINK, 900e9, None,
            _HOPPER_CLOCK, _STAS + " (memory); peaks those of its H100", ("NVIDIA GH200 480GB",),
            "the power limit covers the CPU too and is set by the maker of the server",
        ),
        HardwareSpec(
            "b200-180gb", "NVIDIA B200 SXM 180 GB", _peaks(2250, 2250, 1125, 80, 4500, 4500), 8000e9, 180 * _GB,
            None, _NVLINK, 1800e9, 1000, Clocking(592, 1024, 1860e6),
            "DGX B200 data sheet via " + _STAS + "; hmc-tech.com nvidia-b200 for units and clock", ("NVIDIA B200",),
            "the driver tells 7,672 GB/s; L2 is given as 65.5 MB and as 126.5 MB",
        ),
        HardwareSpec(
            "l4-24gb", "NVIDIA L4", _peaks(121, 121, 60, 30.3, 242, 242), 300e9, 24 * _GB, 48 * _MIB, _PCIE4, 64e9, 72,
            Clocking(232, 128, 2040e6), "fpsbench.com nvidia-l4; store.sourcecode.com (sparse figures halved)",
            ("NVIDIA L4",),
        ),
        HardwareSpec(
            "l40s-48gb", "NVIDIA L40S", _peaks(362.05, 362.05, 183, 91.6, 733, 733), 864e9, 48 * _GB, None,
            _PCIE4, 64e9, 350, None, "mullet.se product 355414, NVIDIA's table; int8 from " + _STAS, ("NVIDIA L40S",),
            "the 2,520 MHz boost clock would give 366 TFLOP/s; L2 is given as 48 MB and as 96 MB",
        ),
        HardwareSpec(
            "a10-24gb", "NVIDIA A10", _peaks(125, 125, 62.5, 31.2, None, None), 600e9, 24 * _GB, 6 * _MIB, _PCIE4,
            64e9, 150, Clocking(288, 128, 1695e6), "sysrqmts.com nvidia-a10-pcie; Baseten's guide to the A10",
            ("NVIDIA A10",),
        ),
        HardwareSpec(
            "t4-16gb", "NVIDIA T4", _peaks(None, 65, None, 8.1, None, None), 320e9, 16 * _GB, 4 * _MIB, _PCIE3, 32e9,
            70, Clocking(320, 64, 1590e6), "sysrqmts.com nvidia-tesla-t4", ("Tesla T4",),
        ),
        HardwareSpec(
            "v100-16gb", "NVIDIA V100 SXM2 16 GB", _V100, 900e9, 16 * _GB, 6 * _MIB, _NVLINK, 300e9, 300,
            _V100_CLOCK, _VOLTA, ("Tesla V100-SXM2-16GB",),
        ),
        HardwareSpec(
            "v100-32gb", "NVIDIA V100 SXM2 32 GB", _V100, 900e9, 32 * _GB, 6 * _MIB, _NVLINK, 300e9, 300,
            _V100_CLOCK, _VOLTA, ("Tesla V100-SXM2-32GB",),
        ),
        HardwareSpec(
            "rtx3090-24gb", "NVIDIA GeForce RTX 3090", _peaks(71.2, 71.2, None, 35.6, None, None), 936.2e9, 24 * _GB,
            6 * _MIB, None, None, 350, Clocking(328, 64, 1695e6),
            "holynerdvana.blogspot.com (Tom's Hardware), 142 TFLOP/s with fp16 accumulation",
            ("NVIDIA GeForce RTX 3090",), "bf16 and fp16 with fp32 accumulation: half of the fp16 figure", 142e12,
        ),
        HardwareSpec(
            "rtx4090-24gb", "NVIDIA GeForce RTX 4090", _peaks(165.2, 165.2, 82.6, 82.6, 660.6, 330.3), 1008e9,
            24 * _GB, 72 * _MIB, _PCIE4, 64e9, 450, Clocking(512, 64, 2520e6),
            "waredb.com/processor/nvidia-geforce-rtx-4090", ("NVIDIA GeForce RTX 4090",), None, 330.3e12,
        ),
        HardwareSpec(
            "mi300x-192gb", "AMD Instinct MI300X", _peaks(1307.4, 1307.4, 653.7, 163.4, 2614.9, 2614.9), 5300e9,
            192 * _GB, 32 * _MIB, "Infinity Fabric", 896e9, 750, Clocking(1216, 256, 2100e6),
            "AMD's MI300X page via " + _STAS + ", note 17", ("AMD Instinct MI300X",), "and 256 MB of Infinity Cache",
        ),
        HardwareSpec(
            "mi250x-128gb", "AMD Instinct MI250X", _peaks(383, 383, None, 47.9, 383, None), 3277e9, 128 * _GB, None,
            "Infinity Fabric", None, 560, Clocking(880, 128, 1700e6), "zexron.com, AMD's table; " + _STAS, (),
            "the whole board: a program sees one of its two dies (GCD) and half of everything",
        ),
    )
)  # fmt: skip
