"""The state of a device during work, sampled by another thread at the rate at which its sensors change.

A single sample beside a pass of milliseconds shows a device at its start or end, and power is the driver's average
over a second. So sampling goes on for the whole block, and counters of throttling cover the moments in between.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from statistics import median_low
from threading import Event, Thread

import torch

from llamalab.measure.device.machine import device_of
from llamalab.measure.timing.deadline import now_s
from llamalab.records.phase_profile import Telemetry

EVERY_S = 0.1
WORKING_S = 1.5  # working time after which the average of the last second is that of the work
_REASONS = "throttle_reasons"


class Watch:
    """Samples of a block, and causes whose throttle counters rose in it; `state` is complete when the block ends."""

    def __init__(self) -> None:
        self.readings: list[Telemetry] = []
        self.rose: list[str] = []

    @property
    def state(self) -> Telemetry:
        """The samples as one: medians, and every throttle cause that was active at some time."""
        return over_time(self.readings, self.rose)


@contextmanager
def watching(place: torch.device, *, every_s: float = EVERY_S) -> Iterator[Watch]:
    """Sample the device's state at once and every `every_s` seconds while the block runs."""
    device, watch, over = device_of(place), Watch(), Event()

    def read() -> None:
        while True:
            watch.readings.append(device.telemetry())
            if over.wait(every_s):
                return

    before = device.throttle_counters()
    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        yield watch
    finally:
        over.set()
        reader.join()
        after = device.throttle_counters()
        watch.rose = [name for name, count in after.items() if count > before.get(name, count)]


def state_at_work(work: Callable[[], object], place: torch.device) -> Telemetry:
    """The state while `work` is repeated: for WORKING_S seconds on an accelerator, once on a host."""
    device, began_s = device_of(place), now_s()
    least_s = WORKING_S if device.role == "accelerator" else 0.0
    with watching(place) as watch:
        work()
        while now_s() - began_s < least_s:
            work()
            device.synchronise()
    half = len(watch.readings) // 2  # by then the averages are of the work
    return over_time(watch.readings[half:], watch.rose)


def over_time(readings: Sequence[Telemetry], rose: Sequence[str] = ()) -> Telemetry:
    """Medians of the samples (the lower of two), and the union of throttle causes; a value that no sample has is None.

    >>> over_time([Telemetry(power_w=100.0), Telemetry(power_w=300.0), Telemetry(power_w=290.0)]).power_w
    290.0
    """
    values = {
        one.name: [value for reading in readings if (value := getattr(reading, one.name)) is not None]
        for one in fields(Telemetry)
        if one.name not in ("missing", _REASONS)
    }
    medians = {name: median_low(known) for name, known in values.items() if known}
    lists = [reading.throttle_reasons for reading in readings if reading.throttle_reasons is not None]
    reasons = sorted({*rose, *(name for one in lists for name in one)}) if lists or rose else None
    missing = {} if not readings else readings[0].missing
    lacking = {
        name: why for name, why in missing.items() if name not in medians and (name != _REASONS or reasons is None)
    }
    return Telemetry(**medians, throttle_reasons=reasons, missing=lacking)
