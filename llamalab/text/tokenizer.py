"""The interface of a tokenizer: text to ids and back, and the bytes that one id stands for.

Encoding is sentencepiece's byte-pair encoding (bpe_model.cc) without normalisation: a space is
put before a text that is not empty (unless the vocabulary says not to), U+2581 counts as a space, then of
all neighbours that make a piece the pair with the highest score is joined, the leftmost first, and characters
that are no piece are spelled as bytes. Decoding drops the one space that was put in front.

`Kind` is sentencepiece_model.proto's ModelProto.SentencePiece.Type, which GGUF's token_type repeats.
"""

from enum import IntEnum
from typing import Protocol

from llamalab.errors import InputError

SPACE = "▁"  # how sentencepiece writes a space
UNKNOWN_SURFACE = " ⁇ ".encode()  # what sentencepiece writes for the unknown piece


class Kind(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Tokenizer(Protocol):
    """Text to ids and back. Ids are 0 to vocab_size - 1; others raise InputError."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""

    @property
    def bos_id(self) -> int:
        """The id that begins a text."""

    @property
    def eos_id(self) -> int:
        """The id that ends one."""

    @property
    def space_first(self) -> bool:
        """Whether encoding puts a space before a text, which decoding leaves out."""

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids of a text, with BOS before them where asked. Raises InputError for lone surrogates."""

    def piece(self, token_id: int) -> bytes:
        """The bytes an id stands for, part of a UTF-8 character perhaps; none for BOS and EOS."""


def check_text(text: str) -> None:
    """Raise InputError for what UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a text must be Unicode that UTF-8 can write; character {error.start} is not") from None


def check_id(token_id: int, vocab_size: int) -> None:
    """Raise InputError for an id outside the vocabulary."""
    if not 0 <= token_id < vocab_size:
        raise InputError(f"a token id must be from 0 to {vocab_size - 1}; got {token_id}")
