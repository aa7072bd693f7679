"""Which runs on other devices are kept with the source? Records of GPUs, for readers who have none."""

from pathlib import Path

import llamalab
from llamalab.records import Record, from_json

FOLDER = Path(llamalab.__file__).resolve().parents[1] / "experiments" / "records"
CONSTANTS = "constants-"  # files beside the records that hold a calibration


def committed(folder: Path = FOLDER, *, device: str | None = None) -> list[Record]:
    """The records under a folder, in the order of their paths, of one kind of device where it is named.

    Empty where the folder is not there, as in an installed package. Raises FormatError for a broken record.
    """
    paths = sorted(path for path in folder.glob("*/*.json") if not path.name.startswith(CONSTANTS))
    records = [from_json(path.read_text(encoding="utf-8"), source=path.name) for path in paths]
    return [record for record in records if device in (None, record.environment.device)]
