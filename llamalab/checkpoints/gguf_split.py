"""GGUF files in parts, as llama.cpp splits them (`name-00001-of-00003.gguf` ...), opened by the first part.

Each part has a header of its own with split.no, split.count and split.tensors.count; the first alone has the other
settings. Source: llama.cpp tools/gguf-split, src/llama-model-loader.cpp.
"""

import mmap
import re
from pathlib import Path
from typing import NamedTuple

from llamalab.errors import FormatError
from llamalab.formats.gguf_header import GgufHeader, map_gguf

_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"


class GgufPart(NamedTuple):
    """A mapped file and its header."""

    data: mmap.mmap
    header: GgufHeader


def split_parts(path: Path) -> list[GgufPart]:
    """All parts of a file, in order. Raises FormatError where one is missing or belongs to another model."""
    first = GgufPart(*map_gguf(path))
    count = first.header.settings.get(_COUNT, 1)
    if count in (0, 1):
        return [first]
    found = _NAME.fullmatch(path.name)
    if type(count) is not int or found is None or int(found["count"]) != count:
        raise FormatError(
            f"a GGUF file of {count!r} parts must be called as one of so many, NAME-00001-of-00003.gguf; "
            f"it is called {path.name}"
        )
    names = [f"{found['stem']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    if path.name != names[0]:
        raise FormatError(f"a GGUF file in parts must be opened by its first, {names[0]}; got {path.name}")
    parts = [first, *(_part(path.with_name(name)) for name in names[1:])]
    for number, part in enumerate(parts):
        settings = part.header.settings
        if settings.get(_NUMBER) != number or settings.get(_COUNT) != count:
            raise FormatError(f"{names[number]} must be part {number} of {count}; its header says otherwise")
    _check_tensors(parts)
    return parts


def _part(path: Path) -> GgufPart:
    if not path.is_file():
        raise FormatError(f"a GGUF file must have all its parts; there is no {path.name}")
    return GgufPart(*map_gguf(path))


def _check_tensors(parts: list[GgufPart]) -> None:
    names = [name for part in parts for name in part.header.tensors]
    if len(set(names)) != len(names):
        raise FormatError("a tensor must be in one part of a GGUF file; one is in two")
    total = parts[0].header.settings.get(_TENSORS, len(names))
    if total != len(names):
        raise FormatError(f"the parts of a GGUF file must hold its {total!r} tensors; they hold {len(names):,}")
