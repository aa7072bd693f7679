"""What other tools write, read as runs that can be compared: one module a tool, told by content.

Belongs here: readers of other tools' files. A reader is a module with `TOOL`, `recognises(data)` and
`read(data, name)`, and a row of READERS. Does not belong here: predictions beside what was read (comparison), running
those tools.
"""

import os
from typing import Any

from llamalab.errors import FormatError
from llamalab.files.inputs import parse_json, read_bounded_text
from llamalab.records.peers import aiperf, guidellm, llama_bench, optimum_benchmark, torch_trace, vllm
from llamalab.records.run import Run

READERS = (llama_bench, vllm, guidellm, aiperf, optimum_benchmark, torch_trace)


def read_peer(path: str | os.PathLike[str]) -> list[Run]:
    """The runs of a file that another tool wrote: a run for each model, server setting or trace in it.

    Raises MissingError where there is no file, FormatError where no reader knows it.
    """
    text, name = read_bounded_text(path, "file to compare"), os.fspath(path)
    return runs_of_text(text, name)


def runs_of_text(text: str, name: str) -> list[Run]:
    """As read_peer, of a text."""
    data = _parsed(text, name)
    for reader in READERS:
        if reader.recognises(data):
            try:
                runs = reader.read(data, name)
            except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
                raise FormatError(f"{name} must be what {reader.TOOL} writes; {_told(error)}") from None
            return _sound(runs, name)
    tools = ", ".join(reader.TOOL for reader in READERS)
    raise FormatError(f"{name} must be a record, profile, bench or prediction of llamalab, or of {tools}; it is none")


def _parsed(text: str, name: str) -> Any:
    """JSON, a list of JSON lines, or the text itself, which a reader of CSV or SQL may know."""
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
    return runs


def _told(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
