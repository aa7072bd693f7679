"""Results of other tools, read as runs that can be compared: one module a tool, recognised by content.

Belongs here: readers of other tools' files. A reader is a module with `TOOL`, `recognises(data)` and
`read(data, name)`, and a row of READERS. Does not belong here: predictions for what was read (comparison), running
those tools.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from llamalab.errors import FormatError
from llamalab.files.inputs import parse_json, read_bounded_text
from llamalab.records.peers import aiperf, guidellm, llama_bench, optimum_benchmark, torch_trace, vllm
from llamalab.records.peers.trace_file import is_trace
from llamalab.records.run import Run

READERS = (llama_bench, vllm, guidellm, aiperf, optimum_benchmark, torch_trace)


def read_peer(path: str | os.PathLike[str]) -> list[Run]:
    """The runs in a file of another tool: one for each model, server setting or trace in it.

    Raises MissingError where there is no file, FormatError where no reader knows it.
    """
    return read_trace(path) or runs_of_text(read_bounded_text(path, "file to compare"), os.fspath(path))


def read_trace(path: str | os.PathLike[str]) -> list[Run]:
    """The run of a trace of any length; none where the file is not one. Errors as for read_peer."""
    name = os.fspath(path)
    return _read(torch_trace, partial(torch_trace.read_file, path), name) if is_trace(path) else []


def runs_of_text(text: str, name: str) -> list[Run]:
    """As read_peer, of a text."""
    data = _parsed(text, name)
    for reader in READERS:
        if reader.recognises(data):
            return _read(reader, partial(reader.read, data, name), name)
    tools = ", ".join(reader.TOOL for reader in READERS)
    raise FormatError(f"{name} must be a record, profile, bench or prediction of llamalab, or of {tools}; it is none")


def _read(reader: Any, read: Callable[[], list[Run]], name: str) -> list[Run]:
    try:
        return _sound(read(), name)
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise FormatError(f"{name} must be what {reader.TOOL} writes; {_cause_of(error)}") from None


def _parsed(text: str, name: str) -> Any:
    """JSON, a list of JSON lines, or the text itself for readers of CSV or SQL."""
    head = text.lstrip()[:1]
    if head not in ("{", "["):
        return text
    try:
        return parse_json(text, name)
    except FormatError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [parse_json(line, name) for line in lines]


def _sound(runs: list[Run], name: str) -> list[Run]:
    if not runs or not all(run.phases for run in runs):
        raise FormatError(f"{name} must have a result with a time; it has none")
    for run in runs:
        for phase in run.phases:
            if not phase.total_s > 0 or any(not sample > 0 for sample in phase.samples_s):
                raise FormatError(f"times of {name} must be positive; {phase.name} has {phase.total_s}")
    return [run._replace(device=" ".join(run.device.split())) if isinstance(run.device, str) else run for run in runs]


def _cause_of(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
