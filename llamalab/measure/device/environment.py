"""Where and how a measurement was made: versions, threads, device, state; no host, user or path."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

import llamalab
from llamalab.measure.device.machine import ROOT, device_name, memory_bytes
from llamalab.measure.device.nvml import NvmlDevice, open_device
from llamalab.records.record import Environment, Telemetry

_NOT_ON_CPU = "not readable on a CPU without privileges"


def environment(device: torch.device, command: str) -> Environment:
    """Everything that can change a measurement, with the device's state now as `before`."""
    revision, dirty = git_state(Path(llamalab.__file__).resolve().parents[1])
    watched, _ = watch(device)
    return Environment(
        llamalab=llamalab.__version__,
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
        cuda=torch.version.cuda if device.type == "cuda" else None,
        driver=watched.driver() if watched else None,
        git_revision=revision,
        git_dirty=dirty,
        before=telemetry(device),
    )


def telemetry(device: torch.device) -> Telemetry:
    """The device's state at this moment; what it does not tell is None with the reason."""
    if device.type == "cpu":
        return cpu_telemetry()
    watched, reason = watch(device)
    if watched is None:
        unread = ("clock_hz", "memory_clock_hz", "power_w", "temperature_c", "throttle_reasons")
        return Telemetry(missing=dict.fromkeys(unread, reason or "NVML: not available"))
    return watched.telemetry()


def cpu_telemetry(*, root: Path = ROOT) -> Telemetry:
    """Mean clock of the cores and the load of the host."""
    missing = dict.fromkeys(("memory_clock_hz", "power_w", "temperature_c", "throttle_reasons"), _NOT_ON_CPU)
    clocks_mhz = _clocks_mhz(root / "proc/cpuinfo")
    if not clocks_mhz:
        missing["clock_hz"] = "the system does not tell the clock"
    try:
        load = os.getloadavg()[0]
    except OSError:
        load, missing["load_average"] = None, "the system does not tell the load"
    clock_hz = int(sum(clocks_mhz) / len(clocks_mhz) * 1e6) if clocks_mhz else None
    return Telemetry(clock_hz=clock_hz, load_average=load, missing=missing)


def watch(device: torch.device) -> tuple[NvmlDevice | None, str | None]:
    """The device in NVML, or None and the reason."""
    if device.type != "cuda":
        return None, "not an NVIDIA device"
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return open_device(str(uuid)) if uuid else (None, "this torch does not tell the device's UUID")


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Revision and whether files differ from it, where `folder` is the top of a checkout."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An installed copy may lie inside another project's checkout, whose revision is not ours.
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


def _clocks_mhz(cpuinfo: Path) -> list[float]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return []
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
