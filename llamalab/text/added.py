"""Splitting a text at added pieces, leftmost first and the longest at a place; as JSON."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from llamalab.text.settings import Added
from llamalab.text.tokenizer import Tokenizer, check_id


class Cutter:
    """Cuts a text at added pieces.

    >>> list(Cutter([Added(7, "<end>"), Added(8, "<end>!")]).parts("a<end>!b"))
    [('a', 8), ('b', None)]
    """

    def __init__(self, pieces: Sequence[Added]) -> None:
        by_text = {piece.text: piece for piece in reversed(pieces) if piece.text}
        longest_first = sorted(by_text, key=len, reverse=True)
        self._ids = {text: piece.token_id for text, piece in by_text.items()}
        self._cut = re.compile("|".join(_pattern(by_text[text]) for text in longest_first)) if by_text else None

    def parts(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Each stretch with the id of the piece that follows it; None after the last."""
        at = 0
        for found in self._cut.finditer(text) if self._cut else ():
            # The white space that a piece takes along is not part of its name.
            token_id = self._ids.get(found[0], self._ids.get(found[0].strip()))
            yield text[at : found.start()], token_id
            at = found.end()
        yield text[at:], None


class WithAdded(Tokenizer):
    """A tokenizer whose checkpoint adds pieces to those of its vocabulary, under new ids or old ones."""

    @cached_property
    def _added(self) -> dict[int, Added]:
        return {piece.token_id: piece for piece in self.settings.added}

    def piece(self, token_id: int) -> bytes:
        """The bytes of an id, possibly part of a UTF-8 character; none for special pieces such as BOS and EOS."""
        check_id(token_id, self.vocab_size)
        if (added := self._added.get(token_id)) is not None:
            return b"" if added.special else added.text.encode()
        return self._own_piece(token_id)

    def name(self, token_id: int) -> str:
        """The text that an id is stored under; empty for one that has none."""
        check_id(token_id, self.vocab_size)
        if (added := self._added.get(token_id)) is not None:
            return added.text
        return self._own_name(token_id)

    @abstractmethod
    def _own_piece(self, token_id: int) -> bytes:
        """The bytes of an id of the vocabulary."""

    @abstractmethod
    def _own_name(self, token_id: int) -> str:
        """The text of an id of the vocabulary."""


def added_token(piece: Added) -> dict[str, Any]:
    """An added piece as tokenizer.json and tokenizer_config.json have it, with its id."""
    return {
        "id": piece.token_id,
        "content": piece.text,
        "single_word": piece.single_word,
        "lstrip": piece.lstrip,
        "rstrip": piece.rstrip,
        "normalized": False,
        "special": piece.special,
    }


def _pattern(piece: Added) -> str:
    before, after = r"\s*" if piece.lstrip else "", r"\s*" if piece.rstrip else ""
    text = rf"(?<!\w){re.escape(piece.text)}(?!\w)" if piece.single_word else re.escape(piece.text)
    return before + text + after
