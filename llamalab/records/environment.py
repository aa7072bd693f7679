"""The conditions of a run: software, device, and the state of the device before and after."""

from dataclasses import dataclass

from llamalab.records.phase_profile import Telemetry


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The conditions of a run, without host, user or path.

    `device` is cpu or cuda; `memory_bytes` is that device's memory.
    """

    llamalab: str
    python: str
    torch: str
    device: str
    device_name: str
    memory_bytes: int
    threads: int
    interop_threads: int
    os: str
    command: str
    started_at: str
    cuda: str | None = None
    driver: str | None = None
    cudnn: str | None = None
    git_revision: str | None = None
    git_dirty: bool | None = None
    before: Telemetry | None = None
    after: Telemetry | None = None
