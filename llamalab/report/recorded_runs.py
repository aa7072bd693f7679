"""Recorded runs on other devices that are part of the source, for readers without such devices."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from llamalab.errors import LlamaLabError
from llamalab.files.inputs import read_bounded_text
from llamalab.records.record import Record
from llamalab.records.record_json import record_from_json

PACKAGED = Path(__file__).parent / "recorded"  # the wheel has experiments/records here
_MARK = '"parameters_measured"'  # a key that only records have
CONSTANTS = "constants-"  # files beside the records that hold a calibration
T = TypeVar("T")
OnBroken = Callable[[str], None] | None


def recorded_runs(folder: Path, *, accelerators: bool = False, on_broken: OnBroken = None) -> list[Record]:
    """The records under a folder in the order of their paths, optionally those of accelerators alone.

    Empty where the folder is absent. Raises FormatError for a broken record, or calls `on_broken` with it and skips it.
    """
    records = [record for machine in sorted(folder.glob("*/")) for record in records_of(machine, on_broken=on_broken)]
    return [record for record in records if not (accelerators and record.environment.device == "cpu")]


def records_of(machine: Path, *, on_broken: OnBroken = None) -> list[Record]:
    """The records of one machine's folder, where calibrations and answers of experiments lie too."""
    found = each_read(sorted(machine.glob("*.json")), read_record, on_broken)
    return [record for record in found if record is not None]


def each_read(paths: Iterable[Path], read: Callable[[Path], T], on_broken: OnBroken) -> list[T]:
    """`read` applied to each file; a refused file is passed to `on_broken`, or raises where that is None."""
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except (LlamaLabError, OSError) as error:
            if on_broken is None:
                raise
            on_broken(f"{path.parent.name}/{path.name} is left out of the page ({error})")
    return found


def read_record(path: Path) -> Record | None:
    """The record in a file; None where it is another JSON file. Raises FormatError for a broken one."""
    text = read_bounded_text(path, "record")
    return record_from_json(text, source=path.name) if _MARK in text else None
