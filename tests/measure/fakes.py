"""A clock that moves only when told, and an NVML that says what it is told: no wall clock, no GPU."""

from itertools import pairwise
from typing import Any


class FakeClock:
    """Marks a time that `advance` moves, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._marks: list[float] = []

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def mark(self) -> None:
        self._marks.append(self.now)

    def hold(self, seconds: float) -> None:
        """This device is never behind."""

    def read(self) -> list[float]:
        marks, self._marks = self._marks, []
        return [end - start for start, end in pairwise(marks)]


class StepClock(FakeClock):
    """Every mark is one second, or so many, after the one before: what is timed is what is marked, exactly."""

    def __init__(self, step_s: float = 1.0) -> None:
        super().__init__()
        self._step_s = step_s

    def mark(self) -> None:
        self.advance(self._step_s)
        super().mark()


class FakeNvmlError(Exception):
    """What NVML raises."""


class FakeNvml:
    """One H-class device under UUID GPU-abc; names in `broken` raise, names in `absent` do not exist."""

    NVMLError = FakeNvmlError

    def __init__(self, *, broken: tuple[str, ...] = (), absent: tuple[str, ...] = (), reasons: int = 0) -> None:
        self._broken, self._absent = broken, absent
        self._answers = {
            "nvmlInit": None,
            "nvmlSystemGetDriverVersion": b"570.1",
            "nvmlDeviceGetClockInfo": {1: 1980, 2: 3201},
            "nvmlDeviceGetPowerUsage": 123_456,
            "nvmlDeviceGetTemperature": 41,
            "nvmlDeviceGetCurrentClocksEventReasons": reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": reasons,
            "nvmlDeviceGetMemoryBusWidth": 6144,
            "nvmlDeviceGetMaxClockInfo": 3201,
        }

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-abc":
            raise FakeNvmlError("Not Found")
        return "handle"

    def __getattr__(self, name: str) -> Any:
        if name in self._absent or name not in self._answers:
            raise AttributeError(name)

        def answer(*arguments: Any) -> Any:
            if name in self._broken:
                raise FakeNvmlError("Not Supported")
            value = self._answers[name]
            return value[arguments[-1]] if isinstance(value, dict) else value

        return answer
