"""Where and how a measurement was made: versions, threads, device, state; no host, user or path."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from llamalab.measure.device.machine import device_name, device_of, memory_bytes
from llamalab.records.environment import Environment
from llamalab.records.phase_profile import Telemetry
from llamalab.version import __version__


def environment(device: torch.device, command: str) -> Environment:
    """All conditions that can change a measurement, with the device's state now as `before`."""
    revision, dirty = git_state(Path(__file__).resolve().parents[3])
    versions = device_of(device).versions
    return Environment(
        llamalab=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        device=device.type,
        device_name=device_name(device),
        memory_bytes=memory_bytes(device),
        threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        command=command,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        cuda=versions.runtime,
        driver=versions.driver,
        cudnn=versions.kernels,
        git_revision=revision,
        git_dirty=dirty,
        before=read_telemetry(device),
    )


def read_telemetry(device: torch.device) -> Telemetry:
    """The device's state at this moment; unreported values are None with the reason."""
    return device_of(device).telemetry()


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Revision, and whether files differ from it, where `folder` is the root of a checkout."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An installed copy may lie inside another project's checkout, with another revision.
    if top is None or Path(top) != folder:
        return None, None
    revision, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
    return revision, None if revision is None or changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
