"""Streaming decoders of each library, which differ in the leading space and in bytes that are not UTF-8.

sentencepiece writes one U+FFFD for each bad byte; tokenizers with byte fallback take a run of bytes as text only where
all of it is UTF-8, and write one for each of its bytes where not; byte-level ones write one for each broken sequence.
"""

import codecs
from typing import Protocol

from llamalab.text.tokenizer import Kind, Tokenizer

_EACH_BYTE = "llamalab.each_byte"
codecs.register_error(_EACH_BYTE, lambda error: ("\ufffd" * (error.end - error.start), error.end))  # type: ignore[attr-defined]


class _WithBytes(Tokenizer, Protocol):
    def is_byte(self, token_id: int) -> bool: ...


class _WithKinds(Tokenizer, Protocol):
    def kind(self, token_id: int) -> int: ...


class PieceDecoder:
    """sentencepiece's decoding."""

    def __init__(self, tokenizer: _WithKinds) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")(_EACH_BYTE)
        self._at_start = True

    def push(self, token_id: int) -> str:
        """The text that is certain with one more id."""
        kind, piece = self._tokenizer.kind(token_id), self._tokenizer.piece(token_id)
        if kind == Kind.BYTE:
            self._at_start = False
            return self._bytes.decode(piece)
        broken = self._bytes.decode(b"", final=True)
        if not piece:
            return broken
        if self._at_start and self._tokenizer.space_first and kind != Kind.UNKNOWN:
            piece = piece.removeprefix(b" ")
        self._at_start = False
        return broken + piece.decode()

    def end(self) -> str:
        """The withheld text; a new text may begin."""
        self._at_start = True
        return self._bytes.decode(b"", final=True)


class FallbackDecoder:
    """Runs of bytes are text where all of them together are UTF-8."""

    def __init__(self, tokenizer: _WithBytes) -> None:
        self._tokenizer, self._run = tokenizer, b""
        self._strip = tokenizer.space_first

    def push(self, token_id: int) -> str:
        """The text that is certain with one more id."""
        piece = self._tokenizer.piece(token_id)
        if self._tokenizer.is_byte(token_id):
            self._run += piece
            return ""
        return self._shown(self._ended() + piece.decode()) if piece else ""

    def end(self) -> str:
        """The withheld text; a new text may begin."""
        text = self._shown(self._ended())
        self._strip = self._tokenizer.space_first
        return text

    def _ended(self) -> str:
        run, self._run = self._run, b""
        try:
            return run.decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(run)

    def _shown(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text


class ByteLevelDecoder:
    """Bytes side by side, special tokens left out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that is certain with one more id."""
        return self._bytes.decode(self._tokenizer.piece(token_id))

    def end(self) -> str:
        """The withheld text; a new text may begin."""
        return self._bytes.decode(b"", final=True)
