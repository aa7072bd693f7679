import torch

from llamalab.measure.device.machine import clock_for
from llamalab.measure.timing.clock import HostClock


def test_marks_give_one_interval_fewer(monkeypatch):
    times = iter([1_000, 1_500, 4_500])
    monkeypatch.setattr("llamalab.measure.timing.clock.time.perf_counter_ns", lambda: next(times))
    clock = HostClock()
    for _ in range(3):
        clock.mark()
    assert clock.read() == [5e-7, 3e-6]


def test_reading_forgets():
    clock = HostClock()
    clock.mark()
    clock.mark()
    assert len(clock.read()) == 1
    assert clock.read() == []


def test_cpu_gets_the_host_clock():
    assert isinstance(clock_for(torch.device("cpu")), HostClock)
