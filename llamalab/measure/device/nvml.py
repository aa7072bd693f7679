"""The state of an NVIDIA device by its driver: NVML behind one wrapper, read only.

Every value is a number or None with the reason; a missing library, driver, device or sensor is
never an error and never 0. Clocks are recorded and never set.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from llamalab.records.phase_profile import Telemetry

# nvml.h, nvmlClocksEventReasons; bit 0 (idle) is no throttling.
THROTTLE_REASONS = {
    0x002: "application clock setting",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clock setting",
}
# nvml.h, NVML_FI_DEV_CLOCKS_EVENT_REASON_*: counters of throttled time by cause since the driver was loaded.
THROTTLE_FIELDS = {
    74: "software power cap",
    76: "sync boost",
    269: "software thermal slowdown",
    270: "hardware thermal slowdown",
    271: "hardware power brake",
}
_TEMPERATURE_GPU, _CLOCK_SM, _CLOCK_MEMORY = 0, 1, 2


class NvmlDevice:
    """One device in NVML. Made by `open_device`."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    def telemetry(self) -> Telemetry:
        """Clocks, power, temperature and throttle reasons of this moment."""
        missing: dict[str, str] = {}
        readings: dict[str, Any] = {}
        for name, read in self._readings().items():
            try:
                readings[name] = read()
            except (self._library.NVMLError, AttributeError) as error:
                missing[name] = f"NVML: {error}"
        return Telemetry(**readings, missing=missing)

    def driver(self) -> str | None:
        """Version of the driver."""
        try:
            version = self._library.nvmlSystemGetDriverVersion()
        except self._library.NVMLError:
            return None
        return version.decode() if isinstance(version, bytes) else str(version)

    def peak_bandwidth_bytes_per_s(self) -> float | None:
        """Memory bus width x highest memory clock x 2 (double data rate), or None."""
        nvml = self._library
        try:
            bits = nvml.nvmlDeviceGetMemoryBusWidth(self._handle)
            clock_mhz = nvml.nvmlDeviceGetMaxClockInfo(self._handle, _CLOCK_MEMORY)
        except (nvml.NVMLError, AttributeError):
            return None
        return float(bits / 8 * clock_mhz * 1e6 * 2)

    def energy_j(self) -> tuple[float | None, str | None]:
        """Joules since the driver was loaded, or None and the reason; counted by Volta and later."""
        return self._reading(lambda nvml: nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3)

    def throttle_counters(self) -> dict[str, int]:
        """Counters that rise while the clocks are throttled, by cause; only those that this driver supports."""
        nvml = self._library
        try:
            values = nvml.nvmlDeviceGetFieldValues(self._handle, list(THROTTLE_FIELDS))
        except (nvml.NVMLError, AttributeError):
            return {}
        names = THROTTLE_FIELDS.values()
        return {name: int(one.value.ullVal) for name, one in zip(names, values, strict=True) if one.nvmlReturn == 0}

    def process_bytes(self) -> tuple[dict[int, int | None] | None, str | None]:
        """Bytes of each computing process by its id, None where the driver hides them; or None and the reason.

        In a container the ids may be those of the host.
        """

        def read(nvml: Any) -> dict[int, int | None]:
            return {one.pid: one.usedGpuMemory for one in nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)}

        return self._reading(read)

    def _reading(self, read: Callable[[Any], Any]) -> tuple[Any, str | None]:
        try:
            return read(self._library), None
        except (self._library.NVMLError, AttributeError) as error:
            return None, f"NVML: {error}"

    def _readings(self) -> dict[str, Callable[[], Any]]:
        nvml, handle = self._library, self._handle
        return {
            "clock_hz": lambda: nvml.nvmlDeviceGetClockInfo(handle, _CLOCK_SM) * 1_000_000,
            "memory_clock_hz": lambda: nvml.nvmlDeviceGetClockInfo(handle, _CLOCK_MEMORY) * 1_000_000,
            "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "temperature_c": lambda: float(nvml.nvmlDeviceGetTemperature(handle, _TEMPERATURE_GPU)),
            "throttle_reasons": self._throttle_reasons,
        }

    def _throttle_reasons(self) -> list[str]:
        try:
            bits = self._library.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        except (self._library.NVMLError, AttributeError):  # drivers before 535 know the older name
            bits = self._library.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        return throttle_names(bits)


def throttle_names(bits: int) -> list[str]:
    """The reasons in NVML's bit mask; idle is none.

    >>> throttle_names(0x1 | 0x4 | 0x20)
    ['software power cap', 'software thermal slowdown']
    """
    return [name for bit, name in THROTTLE_REASONS.items() if bits & bit]


def open_device(uuid: str, *, library: Any = None) -> tuple[NvmlDevice | None, str | None]:
    """The device with CUDA's UUID, or None and the reason.

    By UUID, because CUDA_VISIBLE_DEVICES renumbers CUDA's devices but not NVML's.
    """
    try:
        nvml = library or import_module("pynvml")
    except ImportError:
        return None, "nvidia-ml-py is not installed; pip install nvidia-ml-py"
    try:
        nvml.nvmlInit()
        return NvmlDevice(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")), None
    except nvml.NVMLError as error:
        return None, f"NVML: {error}"
