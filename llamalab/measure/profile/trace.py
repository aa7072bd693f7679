"""The place of a trace, where TensorBoard's profiler and Perfetto find it.

    DIR/<run>/<worker>.pt.trace.json

torch-tb-profiler lists folders below DIR as runs and files as their workers; every other name it
passes by in silence. The worker is the phase, not the host. Perfetto (ui.perfetto.dev) and
chrome://tracing open the same file.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llamalab.errors import InputError
from llamalab.files.outputs import write_text

TRACE_SUFFIX = ".pt.trace.json"
_PRIVATE = ("host_name", "traceName")  # of the machine it was made on


def trace_path(folder: Path, run: str, worker: str) -> Path:
    """The file of a worker of a run.

    >>> trace_path(Path("traces"), "7b-cpu", "prefill").as_posix()
    'traces/7b-cpu/prefill.pt.trace.json'
    """
    return folder / _plain(run) / f"{_plain(worker)}{TRACE_SUFFIX}"


def trace_writer(folder: Path, run: str) -> tuple[Callable[[str, Any], None], list[Path]]:
    """What is given each phase's finished profiler and writes its trace; and the files written so far.

    Raises InputError where the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"traces must go to a folder; {folder} is a file")
    written: list[Path] = []

    def write(phase: str, profiler: Any) -> None:
        path = trace_path(folder, run, phase)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".new.json")
        profiler.export_chrome_trace(str(whole))
        trace = json.loads(whole.read_text(encoding="utf-8"))
        whole.unlink()
        write_text(path, json.dumps({key: value for key, value in trace.items() if key not in _PRIVATE}) + "\n")
        written.append(path)

    return write, written


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "model"
