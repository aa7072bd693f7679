"""Bounded reading of foreign text and JSON, which never blocks and refuses bad input in one sentence.

Text is UTF-8, with or without a byte order mark, plain or gzipped. JSON is what RFC 8259 calls
interoperable: no key twice, no NaN or infinity, no number that is infinite as a double, no unpaired surrogate;
and bounded in depth.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import chain

from llamalab.errors import FormatError, MissingError
from llamalab.startup.hints import Any

MOST_BYTES = 64 * 2**20  # enough for a record of many runs, or the index of a model with half a million tensors
MOST_CONFIG_BYTES = 4 * 2**20  # configs, calibrations and device files have kilobytes
MOST_DEPTH = 64
_PIECE = 2**20  # bytes that are read at a time
_MOST_DIGITS = 308  # an integer with more digits is infinite as a double
GZIP = b"\x1f\x8b"  # the magic of gzip
POINTER = b"version https://git-lfs"  # the beginning of a Git LFS pointer
IS_POINTER = "a Git LFS pointer, which stands for a file that was not fetched; run git lfs pull in its repository"
_ENCODINGS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\x00\x00\xfe\xff", "UTF-32"))
_KINDS = (
    (stat.S_ISDIR, "a folder; name a file in it"),
    (stat.S_ISFIFO, "a pipe; write it to a file first"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_exists(path: str | os.PathLike[str], what: str) -> None:
    """Raise MissingError where neither a file nor a folder has this name."""
    if not os.path.exists(path):
        raise MissingError(f"the {what} must exist; there is no {os.fspath(path)}; check the path")


def read_bounded_text(path: str | os.PathLike[str], what: str, *, most: int = MOST_BYTES, hint: str = "") -> str:
    """The text of a regular file of at most `most` bytes; `what` names it in errors, `hint` suggests an alternative.

    Raises MissingError where there is none or it cannot be read, FormatError where it is no regular file,
    too large or not UTF-8. A pipe without a writer or an endless device is refused, not waited for.
    """
    return "".join(text_pieces(path, what, most=most, hint=hint))


def text_pieces(path: str | os.PathLike[str], what: str, *, most: int, hint: str = "") -> Iterator[str]:
    """The same in chunks, for a file that may exceed memory."""
    from codecs import getincrementaldecoder

    name, begun, decoder = os.fspath(path), 0, getincrementaldecoder("utf-8-sig")()
    for data in _byte_pieces(name, what, most, hint):
        if not begun:
            _check_beginning(data, name, what)
        try:
            yield decoder.decode(data)
        except UnicodeDecodeError as error:
            held = len(error.object) - len(data)  # of a character that began in the chunk before
            raise FormatError(
                f"the {what} must be UTF-8; {name} is not, at byte {begun - held + error.start}"
            ) from None
        begun += len(data)
    if decoder.getstate()[0]:
        raise FormatError(f"the {what} must be UTF-8; {name} is not, at byte {begun - len(decoder.getstate()[0])}")


def _check_beginning(data: bytes, name: str, what: str) -> None:
    if data.startswith(POINTER):
        raise FormatError(f"the {what} must be there whole; {name} is {IS_POINTER}")
    for mark, encoding in _ENCODINGS:
        if data.startswith(mark):
            raise FormatError(f"the {what} must be UTF-8; {name} is {encoding}; save it as UTF-8")


def _byte_pieces(name: str, what: str, most: int, hint: str) -> Iterator[bytes]:
    """The bytes of a file, decompressed if gzipped; at most `most` of them."""
    try:
        _check_kind(os.stat(name), name, what, most)  # before it is opened, since opening a device may have effects
        # It may have been replaced since: a pipe without a writer must not block.
        with open(os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            _check_kind(os.fstat(file.fileno()), name, what, most)
            first = file.read(_PIECE)
            pieces = chain((first,), iter(lambda: file.read(_PIECE), b""))
            left = most
            for data in _unzipped(pieces, name, what) if first.startswith(GZIP) else pieces:
                left -= len(data)
                if left < 0:  # it grew, is in a file system without sizes, or was compressed
                    raise FormatError(_too_large(name, what, most))
                yield data
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"the {what} must exist; there is no file {name}; {hint or 'check the path'}") from None
    except OSError as error:
        raise MissingError(f"the {what} must be readable; {name}: {error.strerror or error}") from None
    except ValueError as error:  # a zero character, or an unpaired surrogate
        if isinstance(error, FormatError):
            raise
        raise MissingError(f"the {what} must have a path that a file can have; got {name!r}") from None


def _unzipped(pieces: Iterable[bytes], name: str, what: str) -> Iterator[bytes]:
    """Decompressed gzip in small chunks, as profilers write their traces."""
    from zlib import MAX_WBITS, decompressobj, error

    reader = decompressobj(MAX_WBITS | 16)  # with gzip's own header
    for packed in pieces:
        while packed and not reader.eof:
            try:
                yield reader.decompress(packed, _PIECE)
            except error:
                raise FormatError(f"the {what} must be a sound gzip file; {name} is none") from None
            packed = reader.unconsumed_tail
    if not reader.eof:
        raise FormatError(f"the {what} must be a whole gzip file; {name} ends early")


def _check_kind(status: os.stat_result, name: str, what: str, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), "something else")
        raise FormatError(f"the {what} must be a regular file; {name} is {kind}")
    if status.st_size > most:
        raise FormatError(_too_large(name, what, most))


def _too_large(name: str, what: str, most: int) -> str:
    return f"the {what} must have at most {most:,} bytes; {name} has more"


def parse_json(text: str, source: str) -> Any:
    """JSON as Python data. Raises FormatError for invalid or unaccepted JSON; `source` names it."""
    import json  # imported here, since most calculations read no file, and start-up counts milliseconds

    try:
        data = json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check_nesting(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{source} must be a readable JSON file; {_shortened(str(error), 200)}") from None
    return data


def read_object(
    path: str | os.PathLike[str], what: str, *, most: int = MOST_CONFIG_BYTES, hint: str = ""
) -> dict[str, Any]:
    """The object in a JSON file. Errors as for read_bounded_text and parse_json, and for JSON that is no object."""
    data = parse_json(read_bounded_text(path, what, most=most, hint=hint), os.fspath(path))
    if not isinstance(data, dict):
        raise FormatError(f"{os.fspath(path)} must hold a JSON object; got {type(data).__name__}")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{_shortened(text)} is larger than any double")
    return value


def _int(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"{_shortened(text)} is larger than any double")
    return int(text)


def _check_nesting(data: Any) -> None:
    """Level by level: recursion, here or in a caller, would end at the interpreter's limit."""
    level, depth = [data], 0
    while level:
        if depth > MOST_DEPTH:
            raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += (*value, *value.values())
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not value.isascii():
                _check_pairs(value)
        level, depth = below, depth + 1


def _check_pairs(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # an escape such as \ud800 alone, which cannot be encoded
        raise ValueError("a text has half of a surrogate pair") from None


def _shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
