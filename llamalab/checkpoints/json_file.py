"""Reading JSON that somebody else wrote: bounded, an object at the top, no key twice."""

import json
from pathlib import Path
from typing import Any

from llamalab.errors import FormatError, MissingError

MAX_BYTES = 64 * 2**20  # the index of a model with a million tensors; a config has a kilobyte


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises MissingError where there is none, FormatError where it is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise MissingError(f"the checkpoint must have a {path.name}; there is none in {path.parent}") from None
    except OSError as error:
        raise FormatError(f"{path.name} must be a readable file; {error}") from None
    if len(data) > MAX_BYTES:
        raise FormatError(f"{path.name} must be at most {MAX_BYTES:,} bytes; it is larger")
    return _parsed(data, path.name)


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} must be sound JSON; {error}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{what} must be a JSON object; got {type(value).__name__}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a key twice")
    return value
