"""The state of a device while it works, from readings of a device that says when it was read."""

import pytest
import torch

from llamalab.measure.device import watch as watch_module
from llamalab.measure.device.watch import over_time, state_at_work, watching
from llamalab.records.phase_profile import Telemetry
from tests.measure.device.fake_device import FakeAccelerator

PLACE = torch.device("xpu", 0)


class Working(FakeAccelerator):
    """A device that is at 1.9 GHz while it works and at 0.3 GHz else, and a clock that its work moves."""

    def __init__(self) -> None:
        super().__init__(PLACE)
        self.now = 0.0
        self.runs = self.power_cap = 0

    def telemetry(self) -> Telemetry:
        return Telemetry(clock_hz=1900 if 0 < self.now < 9 else 300, throttle_reasons=[])

    def throttle_counters(self) -> dict[str, int]:
        return {"software power cap": self.power_cap, "sync boost": 7}

    def work(self) -> None:
        self.runs += 1
        self.now += 0.25
        self.power_cap += 1000


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> Working:
    device = Working()
    monkeypatch.setattr(watch_module, "device_of", lambda place: device)
    monkeypatch.setattr(watch_module, "now_s", lambda: device.now)
    return device


def test_a_pass_is_repeated_for_a_second_and_a_half_and_counters_tell_what_readings_missed(working: Working) -> None:
    state = state_at_work(working.work, PLACE)
    assert working.runs == 6
    assert state.throttle_reasons == ["software power cap"]  # no reading saw it, and the other one did not rise


def test_a_block_is_read_at_once_and_while_it_runs(working: Working) -> None:
    with watching(PLACE, every_s=1000.0) as watch:
        while not watch.readings:
            pass
        working.work()
    assert [one.clock_hz for one in watch.readings] == [300]
    with watching(PLACE, every_s=0.001) as watch:
        while len(watch.readings) < 3:
            pass
    assert watch.state.clock_hz == 1900


def test_what_was_never_read_keeps_its_reason_and_what_was_read_has_none() -> None:
    first = Telemetry(missing={"power_w": "NVML: busy", "clock_hz": "NVML: lost", "throttle_reasons": "NVML: old"})
    state = over_time([first, Telemetry(clock_hz=5), Telemetry(clock_hz=9)], ["sync boost"])
    assert (state.clock_hz, state.power_w, state.throttle_reasons) == (5, None, ["sync boost"])
    assert state.missing == {"power_w": "NVML: busy"}
