"""The memory of the device that a verb names, and the devices of the table that have enough of it."""

from collections.abc import Callable

from llamalab.cli.output import Column
from llamalab.errors import DoesNotFitError, InputError
from llamalab.formatting import format_bytes
from llamalab.hardware import HARDWARE, HardwareSpec
from llamalab.startup.hints import Any

DEVICE_COLUMNS = (
    Column("hardware", "device"),
    Column("memory_bytes", "memory", format_bytes),
    Column("left_bytes", "left", format_bytes),
)


def device_memory(spec: HardwareSpec) -> int:
    """The memory of a device that programs can use, as its driver reports it where that is known.

    Raises InputError for a CPU, whose memory is that of its board.
    """
    if spec.usable_memory_bytes is None:
        raise InputError(f"--hardware must name a device that has its own memory; {spec.name} is a CPU; give --memory")
    return spec.usable_memory_bytes


def devices_that_hold(needed_bytes: int, what: str, changes: Callable[[int], list[str]]) -> list[dict[str, Any]]:
    """The devices of the table with at least `needed_bytes`, smallest first.

    Raises DoesNotFitError where there is none, with the `changes` of `what` that would fit into the largest.
    """
    known = sorted((spec for spec in HARDWARE.values() if spec.usable_memory_bytes), key=device_memory)
    fitting = [spec for spec in known if device_memory(spec) >= needed_bytes]
    if not fitting:
        largest = known[-1]
        size = device_memory(largest)
        short = needed_bytes - size
        raise DoesNotFitError(
            f"{what} must fit into a known device: it needs {format_bytes(needed_bytes)}, {largest.name} has "
            f"{format_bytes(size)}, {format_bytes(short)} ({short:,} bytes) too little; "
            f"try {'; '.join(changes(size)) or 'a smaller model'}"
        )
    return [
        {
            "hardware": spec.name,
            "memory_bytes": device_memory(spec),
            "left_bytes": device_memory(spec) - needed_bytes,
        }
        for spec in fitting
    ]
