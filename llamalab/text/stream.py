"""Text from ids as they arrive, in whole characters, without stop strings.

A stop string may begin in one token and end in another: text that could become one is held back
until it has, or can no longer. The first stop string that is complete ends the text before it, the
longest where several end at the same place; so the text does not depend on where tokens are cut.
"""

from collections.abc import Iterable, Iterator, Sequence

from llamalab.errors import InputError
from llamalab.text.tokenizer import Tokenizer


class TextStream:
    """The text of ids that are pushed one by one; the space that encoding puts first is left out.

    After `push` or `end` has met a stop string `stopped` is True and nothing more comes. Bytes that are
    not UTF-8 become U+FFFD, as many as the tokenizer's own library writes. Raises InputError for an empty stop string.
    """

    def __init__(self, tokenizer: Tokenizer, *, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise InputError("a stop string must have at least one character; got an empty one")
        self.stopped = False
        self._decoder, self._stops = tokenizer.decoder(), tuple(stops)
        self._held = ""

    @property
    def holds_text(self) -> bool:
        """Whether text is held back that may become a stop string."""
        return bool(self._held)

    def prompt(self, token_ids: Iterable[int]) -> str:
        """The text of ids that come before: no stop string ends it, and none that begins in it counts."""
        return "".join(map(self._decoder.push, token_ids))

    def push(self, token_id: int) -> str:
        """The text that is certain with one more id."""
        return "" if self.stopped else self._released(self._decoder.push(token_id))

    def end(self) -> str:
        """The withheld text, at the end."""
        if self.stopped:
            return ""
        text = self._released(self._decoder.end())
        rest, self._held = self._held, ""
        return text if self.stopped else text + rest

    def _released(self, text: str) -> str:
        if not self._stops:
            return text
        text, self._held = self._held + text, ""
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stops if stop in text]
        if found:
            self.stopped = True
            return text[: min(found)[1]]
        certain = len(text) - self._longest_beginning(text)
        self._held = text[certain:]
        return text[:certain]

    def _longest_beginning(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a stop string."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for size in range(longest, 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0


def decode_stream(tokenizer: Tokenizer, token_ids: Iterable[int]) -> Iterator[str]:
    """Text as its ids arrive: a character is held back until the last of its bytes is there."""
    stream = TextStream(tokenizer)
    for token_id in token_ids:
        if text := stream.push(token_id):
            yield text
    if text := stream.end():
        yield text


def decode(tokenizer: Tokenizer, token_ids: Iterable[int]) -> str:
    """The whole text of some ids: see TextStream."""
    return "".join(decode_stream(tokenizer, token_ids))
