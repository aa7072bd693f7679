"""Runs on other devices that are kept with the source, for readers who have no such device."""

from pathlib import Path

import llamalab
from llamalab.input_files import read_bounded_text
from llamalab.records.record import Record, from_json

FOLDER = Path(llamalab.__file__).resolve().parents[1] / "experiments" / "records"
_MARK = '"parameters_measured"'  # a key that only records have
CONSTANTS = "constants-"  # files beside the records that hold a calibration


def committed(folder: Path = FOLDER, *, device: str | None = None) -> list[Record]:
    """The records under a folder, in the order of their paths, of one kind of device where it is named.

    Empty where the folder is not there, as in an installed package. Raises FormatError for a broken record.
    """
    records = [record for machine in sorted(folder.glob("*/")) for record in records_of(machine)]
    return [record for record in records if device in (None, record.environment.device)]


def records_of(machine: Path) -> list[Record]:
    """The records of one machine's folder, where calibrations and answers of experiments lie too."""
    texts = [(path, read_bounded_text(path, "record")) for path in sorted(machine.glob("*.json"))]
    return [from_json(text, source=path.name) for path, text in texts if _MARK in text]
