import pytest

from llamalab.measure.device.nvml import open_device, throttle_names
from tests.measure.fakes import FakeNvml


def device(**changes):
    found, reason = open_device("abc", library=FakeNvml(**changes))
    assert reason is None
    return found


def test_readings_have_si_units():
    state = device(reasons=0x4 | 0x40).telemetry()
    assert (state.clock_hz, state.memory_clock_hz) == (1_980_000_000, 3_201_000_000)
    assert (state.power_w, state.temperature_c) == (123.456, 41.0)
    assert state.throttle_reasons == ["software power cap", "hardware thermal slowdown"]
    assert state.missing == {}


def test_a_sensor_that_fails_is_null_with_its_reason_and_the_others_stay():
    state = device(broken=("nvmlDeviceGetPowerUsage",)).telemetry()
    assert state.power_w is None
    assert state.missing == {"power_w": "NVML: Not Supported"}
    assert state.temperature_c == 41.0


@pytest.mark.parametrize("fault", [{"absent": ("nvmlDeviceGetCurrentClocksEventReasons",)},
                                   {"broken": ("nvmlDeviceGetCurrentClocksEventReasons",)}])  # fmt: skip
def test_old_drivers_know_the_old_name(fault):
    assert device(reasons=0x8, **fault).telemetry().throttle_reasons == ["hardware slowdown"]


def test_idle_is_no_throttling():
    assert device(reasons=0x1).telemetry().throttle_reasons == []
    assert throttle_names(0x1FF) == throttle_names(0x1FE)
    assert len(throttle_names(0x1FF)) == 8


def test_h200_bandwidth_from_bus_and_clock():
    assert device().peak_bandwidth_bytes_per_s() == pytest.approx(4.917e12, rel=1e-3)
    assert device(broken=("nvmlDeviceGetMemoryBusWidth",)).peak_bandwidth_bytes_per_s() is None


def test_driver_version():
    assert device().driver() == "570.1"
    assert device(broken=("nvmlSystemGetDriverVersion",)).driver() is None


def test_uuid_may_carry_its_prefix_and_must_be_known():
    assert open_device("GPU-abc", library=FakeNvml())[0] is not None
    assert open_device("xyz", library=FakeNvml()) == (None, "NVML: Not Found")


def test_no_driver_is_a_reason(monkeypatch):
    assert open_device("abc", library=FakeNvml(broken=("nvmlInit",))) == (None, "NVML: Not Supported")


def test_no_package_is_a_reason(monkeypatch):
    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr("llamalab.measure.device.nvml.import_module", fail)
    found, reason = open_device("abc")
    assert found is None
    assert "pip install nvidia-ml-py" in reason


def test_counters_of_throttling_are_those_that_the_driver_keeps():
    class Value:
        def __init__(self, count, fault):
            self.nvmlReturn, self.value = fault, type("Union", (), {"ullVal": count})

    counts = [Value(5, 0), Value(0, 3), Value(7, 0), Value(0, 0), Value(1, 3)]
    library = FakeNvml()
    library._answers["nvmlDeviceGetFieldValues"] = counts
    found, _ = open_device("abc", library=library)
    assert found.throttle_counters() == {
        "software power cap": 5, "software thermal slowdown": 7, "hardware thermal slowdown": 0,
    }  # fmt: skip
    assert device().throttle_counters() == {}
