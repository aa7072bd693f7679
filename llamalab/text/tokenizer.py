"""The interface of a tokenizer: text to ids and back, and the bytes of one id.

Encoding is sentencepiece's byte-pair encoding (bpe_model.cc) without normalisation: a space is
put before a text that is not empty (unless the vocabulary says not to), U+2581 counts as a space, then of
all neighbours that make a piece the pair with the highest score is joined, the leftmost first, and characters
that are no piece are spelled as bytes. Decoding drops the one space that was put in front. Byte-level
vocabularies, as Llama 3's, are encoded by their own libraries (tokenizer_json, tiktoken_file).

`Kind` is sentencepiece_model.proto's ModelProto.SentencePiece.Type, which GGUF's token_type repeats.
"""

from enum import IntEnum
from typing import Protocol

from llamalab.errors import InputError
from llamalab.text.settings import TextSettings

SPACE = "▁"  # how sentencepiece writes a space
UNKNOWN_SURFACE = " ⁇ "  # sentencepiece's text of the unknown piece


class Kind(IntEnum):
    """The kind of a piece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Decoder(Protocol):
    """Ids to text, one by one: certain text comes at once, the rest with `end`, after which a new text may begin."""

    def push(self, token_id: int) -> str:
        """The text that is certain with one more id. Raises InputError for an id outside the vocabulary."""

    def end(self) -> str:
        """The withheld text."""


class Tokenizer(Protocol):
    """Text to ids and back. Ids are 0 to vocab_size - 1; others raise InputError."""

    # The text settings of its checkpoint: special ids, ends of a text, the chat template.
    settings: TextSettings
    # Whether encoding puts a space before a text, which decoding leaves out.
    space_first: bool

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        ...

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.vocab_size:,} pieces"

    def encode(self, text: str, *, bos: bool = False, special: bool = False, middle: bool = False) -> list[int]:
        """Ids of a text, with BOS before them where asked; `special` reads every special piece spelled in it as one.

        `middle` says that the text continues another one, so that no space is put before it. Raises InputError
        for lone surrogates, and for BOS where there is none.
        """
        ...

    def piece(self, token_id: int) -> bytes:
        """The bytes of an id, possibly part of a UTF-8 character; none for special pieces such as BOS and EOS."""
        ...

    def name(self, token_id: int) -> str:
        """The text that an id is stored under, as the vocabulary writes it; empty for one that has none."""
        ...

    def decoder(self) -> Decoder:
        """A way back to text, for one list of ids."""
        ...

    def prompt_ids(self, text: str) -> list[int]:
        """Ids of a whole prompt, with the additions of its checkpoint."""
        return self.settings.around(self.encode(text, special=self.settings.special_in_prompts))

    def label(self, token_id: int) -> str:
        """The display text of an id: its text, or a special piece's name."""
        return self.piece(token_id).decode("utf-8", "replace") or self.name(token_id)

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text."""
        return self.settings.bos_id

    @property
    def eos_id(self) -> int | None:
        """The id that ends one."""
        return self.settings.eos_id


def beginning(settings: TextSettings, bos: bool) -> list[int]:
    """BOS where asked. Raises InputError where there is none."""
    if bos and settings.bos_id is None:
        raise InputError("a text that is to begin with BOS must have a tokenizer with one; this one has none")
    return [settings.bos_id] if bos and settings.bos_id is not None else []


def check_text(text: str) -> None:
    """Raise InputError for text that UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a text must be Unicode that UTF-8 can write; character {error.start} is not") from None


def check_id(token_id: int, vocab_size: int) -> None:
    """Raise InputError for an id outside the vocabulary."""
    if not 0 <= token_id < vocab_size:
        raise InputError(f"a token id must be from 0 to {vocab_size - 1}; got {token_id}")
