"""A trace file of any length, event by event: memory holds one event and a chunk of text at a time.

A trace of a few steps has hundreds of megabytes. Values are decoded one at a time by json's own scanner, so that fields
before the events (the device) and the events come from one pass over the text.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from json import JSONDecoder
from typing import Any

from llamalab.errors import FormatError
from llamalab.files.inputs import text_pieces

MOST_TRACE_BYTES = 8 * 2**30  # bytes, unpacked
_MOST_VALUE = 16 * 2**20  # characters of one event, or of the fields outside the events
_WHAT = "file to compare"
_EVENTS = re.compile(r'"traceEvents"\s*:\s*\[')
_ENDS = tuple(",:]} \t\r\n")  # characters after a value
_SPACE = re.compile(r"\s*")


def is_trace(path: str | os.PathLike[str]) -> bool:
    """Whether an existing file begins with an object with a list of trace events in its first chunk."""
    if not os.path.isfile(path):
        return False
    first = next(text_pieces(path, _WHAT, most=MOST_TRACE_BYTES), "")
    return first.lstrip()[:1] == "{" and _EVENTS.search(first) is not None


def scan_trace(path: str | os.PathLike[str], take: Callable[[Any], None]) -> dict[str, Any]:
    """Pass every event of a file to `take`, in order; gives the other fields.

    Raises FormatError where the file is truncated or no trace.
    """
    return scan_text(text_pieces(path, _WHAT, most=MOST_TRACE_BYTES), os.fspath(path), take)


def scan_text(pieces: Iterable[str], name: str, take: Callable[[Any], None]) -> dict[str, Any]:
    """As scan_trace, for the chunks of a text.

    >>> events = []
    >>> scan_text(['{"a": 1, "traceEv', 'ents": [{"b": 2}, ', '{"b": 3}]}'], "it", events.append), events
    ({'a': 1}, [{'b': 2}, {'b': 3}])
    """
    text, beside = _Text(iter(pieces), name), {}
    text.expect("{")
    for key in _listed(text, "}", text.value):
        text.expect(":")
        if key == "traceEvents" and text.peek() == "[":
            text.expect("[")
            for event in _listed(text, "]", text.value):
                take(event)
        else:
            beside[key] = text.value()
    if text.peek():
        raise FormatError(f"{name} must be one JSON object; there is more after it")
    return beside


def _listed(text: "_Text", end: str, item: Callable[[], Any]) -> Iterator[Any]:
    """Items separated by commas, up to the closing sign."""
    while text.peek() != end:
        yield item()
        if text.peek() != end:
            text.expect(",")
    text.expect(end)


class _Text:
    """A text in chunks, read from the front."""

    def __init__(self, pieces: Iterator[str], name: str) -> None:
        self._pieces, self._name, self._text, self._at = pieces, name, "", 0
        self._decode = JSONDecoder(parse_constant=self._refuse).raw_decode

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is not None:
            self._text, self._at = self._text[self._at :] + piece, 0
        return piece is not None

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def expect(self, sign: str) -> None:
        """Skip an expected sign."""
        if (found := self.peek()) != sign:
            self._refuse(f"{sign!r} must come where {found!r} does" if found else "it ends early")
        self._at += 1

    def value(self) -> Any:
        """The next value; more text is read where it is cut off."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except ValueError as error:
                if isinstance(error, FormatError):
                    raise
                if len(self._text) - self._at > _MOST_VALUE or not self._more():
                    self._refuse(str(error))
            except RecursionError:
                self._refuse("it is nested too deep")
            else:
                cut = self._text[end : end + 1] not in _ENDS  # within a number, or directly after it
                if not (cut and self._more()):
                    self._at = end
                    return value

    def _refuse(self, why: str) -> Any:
        raise FormatError(f"{self._name} must be a readable JSON file; {why}")
