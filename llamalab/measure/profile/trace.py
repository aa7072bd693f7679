"""Trace files, under the names that TensorBoard's profiler and Perfetto read.

    DIR/<run>/<worker>.pt.trace.json

torch-tb-profiler lists folders below DIR as runs and files as their workers, and ignores other names silently. The
worker is the phase, not the host. Perfetto (ui.perfetto.dev) and chrome://tracing open the same file. A header with
model and shape precedes the events, for llamalab compare.
"""

import json
import re
from pathlib import Path
from typing import Any

from llamalab.errors import InputError
from llamalab.files.outputs import write_text
from llamalab.measure.device.machine import device_of
from llamalab.measure.profile.observations import PhaseRun, TraceWriter
from llamalab.records.peers.torch_trace import WHAT_RAN

TRACE_SUFFIX = ".pt.trace.json"
_PRIVATE = ("host_name", "traceName")  # of the machine it was made on


def trace_path(folder: Path, run: str, worker: str) -> Path:
    """The file of a worker of a run.

    >>> trace_path(Path("traces"), "7b-cpu", "prefill").as_posix()
    'traces/7b-cpu/prefill.pt.trace.json'
    """
    return folder / _plain(run) / f"{_plain(worker)}{TRACE_SUFFIX}"


def trace_writer(folder: Path, run: str, model: str) -> tuple[TraceWriter, list[Path]]:
    """A function that writes the trace of each phase from its finished profiler, and the list of files written so far.

    Raises InputError where the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"traces must go to a folder; {folder} is a file")
    written: list[Path] = []

    def write(work: PhaseRun, profiler: Any) -> None:
        path = trace_path(folder, run, work.phase)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".new.json")
        profiler.export_chrome_trace(str(whole))
        trace = json.loads(whole.read_text(encoding="utf-8"))
        whole.unlink()
        kept = {key: value for key, value in trace.items() if key not in _PRIVATE}
        write_text(path, json.dumps({WHAT_RAN: _about(work, model), **kept}) + "\n")
        written.append(path)

    return write, written


def _about(work: PhaseRun, model: str) -> dict[str, Any]:
    """The header: number of blocks, model, and shape of the pass."""
    return {
        "model": model,
        "phase": work.phase,
        "batch": work.batch,
        "new_tokens": work.new_tokens,
        "context_tokens": work.context_tokens,
        "blocks": work.layers,
        "layers_total": work.layers_total,
        "dtype": work.target.dtype,
        "device": device_of(work.target.device).name,
    }


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "model"
