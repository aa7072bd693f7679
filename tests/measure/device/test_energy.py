"""Energy over windows long enough, memory by process, and reasons where the system is silent."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llamalab.measure.device.cpu import Cpu
from llamalab.measure.device.energy import LEAST_S, energy_per_token, measure_energy, usage
from llamalab.measure.device.nvml import open_device
from tests.measure.fakes import FakeNvml


class Meter:
    """A clock and a counter that rise with the work: 0.3 s and 6 J a pass."""

    def __init__(self, *readings: float) -> None:
        self.passes, self.fixed = 0, list(readings)

    def work(self) -> None:
        self.passes += 1

    def now(self) -> float:
        return 0.3 * self.passes

    def read(self) -> tuple[float | None, str | None]:
        return (self.fixed.pop(0) if self.fixed else 100.0 + 6.0 * self.passes), None


def test_work_is_repeated_until_it_fills_the_window() -> None:
    meter = Meter()
    found = measure_energy(meter.work, 4, meter.read, "NVML", now=meter.now)
    assert meter.passes == 7
    assert found.window_s == pytest.approx(2.1)
    assert found.window_s >= LEAST_S
    assert (found.tokens, found.joules_per_token, found.source) == (28, pytest.approx(1.5), "NVML")


@pytest.mark.parametrize(("readings", "reason"), [((5.0, 5.0), "did not rise"), ((5.0, 1.0), "began anew")])
def test_a_counter_that_says_nothing_gives_no_number(readings: tuple[float, ...], reason: str) -> None:
    meter = Meter(*readings)
    found = measure_energy(meter.work, 4, meter.read, "NVML", now=meter.now)
    assert found.joules_per_token is None
    assert reason in str(found.reason)


def test_without_a_counter_no_work_is_done() -> None:
    meter = Meter()
    found = measure_energy(meter.work, 4, lambda: (None, "NVML: Not Supported"), "NVML", now=meter.now)
    assert (meter.passes, found.joules_per_token, found.reason) == (0, None, "NVML: Not Supported")


def test_a_cpu_tells_its_energy_or_why_not(tmp_path: Path) -> None:
    read, source = Cpu(torch.device("cpu"), root=tmp_path).energy_counter()
    assert source == "RAPL"
    assert read() == (None, "this system has no energy counter of the CPU (RAPL)")
    file = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    file.parent.mkdir(parents=True)
    file.write_text("2500000\n")
    assert read() == (2.5, None)
    file.write_text("")
    assert "not readable" in str(read()[1])


def test_a_pass_that_is_too_long_is_not_repeated() -> None:
    found = energy_per_token(lambda: None, 1, torch.device("cpu"), pass_s=11.0)
    assert found.joules_per_token is None
    assert found.reason


def test_nvml_tells_energy_and_memory_by_process() -> None:
    nvml = FakeNvml()
    nvml._answers["nvmlDeviceGetTotalEnergyConsumption"] = 12_345
    nvml._answers["nvmlDeviceGetComputeRunningProcesses"] = [
        SimpleNamespace(pid=7, usedGpuMemory=1 << 30), SimpleNamespace(pid=8, usedGpuMemory=None),
    ]  # fmt: skip
    device, _ = open_device("abc", library=nvml)
    assert device is not None
    assert device.energy_j() == (12.345, None)
    assert device.process_bytes() == ({7: 1 << 30, 8: None}, None)


def test_a_driver_that_does_not_count_says_so() -> None:
    device, _ = open_device("abc", library=FakeNvml())
    assert device is not None
    value, reason = device.energy_j()
    assert value is None
    assert str(reason).startswith("NVML: ")


def test_this_process_has_memory_and_a_peak(tmp_path: Path) -> None:
    found = usage(torch.device("cpu"))
    assert found.resident_bytes is not None
    assert found.peak_resident_bytes is not None
    assert found.peak_resident_bytes > 10 * 2**20
    assert found.device_bytes_by_process is None
    assert found.missing == {"device_bytes_by_process": "not an NVIDIA device"}
    silent = usage(torch.device("cpu"), proc=tmp_path)
    assert (silent.resident_bytes, silent.peak_resident_bytes) == (None, None)
    assert set(silent.missing) == {"resident_bytes", "peak_resident_bytes", "device_bytes_by_process"}
