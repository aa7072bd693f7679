"""Files as runs that can be compared: ours by what they hold, other tools' by their readers, and folders of either."""

import os
import re

from llamalab.comparison.own_runs import run_of_bench, run_of_prediction, run_of_profile, run_of_record
from llamalab.errors import FormatError, MissingError
from llamalab.files.inputs import parse_json
from llamalab.records.frames import bench_rows
from llamalab.records.peers import read_trace, runs_of_text
from llamalab.records.profile import are_profiles, profiles_from_json
from llamalab.records.record_json import record_from_json, shown_text
from llamalab.records.run import Run
from llamalab.startup.hints import Any


def read_runs(path: str | os.PathLike[str]) -> list[Run]:
    """The runs of a file of ours or of another tool's; of a folder those of its JSON files, tp2.json before tp16.json.

    Raises MissingError where there is no file, FormatError where its format is unknown.
    """
    if os.path.isdir(path):
        return [run for file in _files_of(path) for run in read_runs(file)]
    if traced := read_trace(path):  # which may exceed the size limit of other files
        return traced
    text, name = shown_text(path, "file to compare"), os.fspath(path)
    if are_profiles(text):
        return [run_of_profile(one, name) for one in profiles_from_json(text, source=name)]
    rows = bench_rows(text)
    if rows:
        return [run_of_bench(rows, name)]
    data = _object(text)
    if data is not None and "passes" in data and "environment" in data:
        return [run_of_record(record_from_json(text, source=name), name)]
    if data is not None and "interval" in data and "ops" in data:
        return [run_of_prediction(data, name)]
    return runs_of_text(text, name)


def _files_of(folder: str | os.PathLike[str]) -> list[str]:
    names = [name for name in os.listdir(folder) if name.endswith((".json", ".jsonl"))]
    if not names:
        raise MissingError(f"a folder to compare must hold JSON files; {os.fspath(folder)} holds none; name its files")
    return [os.path.join(folder, name) for name in sorted(names, key=_by_number)]


def _by_number(name: str) -> list[tuple[str, int]]:
    """The words and numbers of a name, in turns: sorted by them, 2 comes before 16."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", name)]


def _object(text: str) -> dict[str, Any] | None:
    try:
        data = parse_json(text, "it")
    except FormatError:
        return None
    return data if isinstance(data, dict) else None
