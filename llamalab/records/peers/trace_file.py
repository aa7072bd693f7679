"""A trace file of any length, event by event: no more is held than one of them and a piece of text.

A trace of a few steps has hundreds of megabytes. Its values are read one at a time by json's own scanner, so that what
is told before the events (the device) and the events come from one pass over the text.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from json import JSONDecoder
from typing import Any

from llamalab.errors import FormatError
from llamalab.files.inputs import text_pieces

MOST_TRACE_BYTES = 8 * 2**30  # unpacked
_MOST_VALUE = 16 * 2**20  # characters of one event, or of what stands beside them
_WHAT = "file to compare"
_EVENTS = re.compile(r'"traceEvents"\s*:\s*\[')
_ENDS = tuple(",:]} \t\r\n")  # what follows a value
_SPACE = re.compile(r"\s*")


def is_trace(path: str | os.PathLike[str]) -> bool:
    """Whether a file that is there begins an object with a list of trace events within its first piece."""
    if not os.path.isfile(path):
        return False
    first = next(text_pieces(path, _WHAT, most=MOST_TRACE_BYTES), "")
    return first.lstrip()[:1] == "{" and _EVENTS.search(first) is not None


def scan_trace(path: str | os.PathLike[str], take: Callable[[Any], None]) -> dict[str, Any]:
    """Give every event of a file to `take`, in order; what stands beside the events.

    Raises FormatError where the file is not whole or no trace.
    """
    return scan_text(text_pieces(path, _WHAT, most=MOST_TRACE_BYTES), os.fspath(path), take)


def scan_text(pieces: Iterable[str], name: str, take: Callable[[Any], None]) -> dict[str, Any]:
    """As scan_trace, of the pieces of a text.

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
    """Items with commas between them, up to the sign that ends them."""
    while text.peek() != end:
        yield item()
        if text.peek() != end:
            text.expect(",")
    text.expect(end)


class _Text:
    """A text that comes in pieces, read from the front."""

    def __init__(self, pieces: Iterator[str], name: str) -> None:
        self._pieces, self._name, self._text, self._at = pieces, name, "", 0
        self._decode = JSONDecoder(parse_constant=self._refuse).raw_decode

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is not None:
            self._text, self._at = self._text[self._at :] + piece, 0
        return piece is not None

    def peek(self) -> str:
        """The next character that is no space; nothing at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def expect(self, sign: str) -> None:
        """Pass a sign."""
        if (found := self.peek()) != sign:
            self._refuse(f"{sign!r} must come where {found!r} does" if found else "it ends early")
        self._at += 1

    def value(self) -> Any:
        """The next value: of one that is cut off more is read."""
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
                cut = self._text[end : end + 1] not in _ENDS  # within a number, or right behind it
                if not (cut and self._more()):
                    self._at = end
                    return value

    def _refuse(self, why: str) -> Any:
        raise FormatError(f"{self._name} must be a readable JSON file; {why}")
