"""Llama 3's `tokenizer.model`: a tiktoken file, each line a piece in base64 and its rank.

A piece's rank is its id; special pieces follow the last one. The cut of a text before encoding and the names of the
special pieces are not in the file: they are Llama 3.1's (meta-llama/llama-models, models/llama3/tokenizer.py), of which
3.0's are the same ids, some of them without a name.
"""

import base64
import binascii
import os
from functools import cached_property

from llamalab.errors import FormatError
from llamalab.files.mapped import map_file
from llamalab.text.added import Cutter, WithAdded
from llamalab.text.byte_level import written
from llamalab.text.decoders import ByteLevelDecoder
from llamalab.text.settings import Added, TextSettings
from llamalab.text.tokenizer import Decoder, beginning, check_text

MAX_BYTES = 64 * 2**20
LLAMA_3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LONGEST_STRETCH = 400_000  # characters that the library is given at once; it may run out of stack with more
_NAMES = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}
_RESERVED = 256


class TiktokenTokenizer(WithAdded):
    """A tiktoken file; raises FormatError for another file and one whose ranks are not 0, 1, 2 and so on."""

    space_first = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import tiktoken

        self.source = os.fspath(path)
        self.pieces = _read(path)
        ranks = {piece: rank for rank, piece in enumerate(self.pieces)}
        try:
            self.backend = tiktoken.Encoding(
                "llama3", pat_str=LLAMA_3_PATTERN, mergeable_ranks=ranks, special_tokens={}, explicit_n_vocab=len(ranks)
            )
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise FormatError(f"{self.source} must be a sound tiktoken file; {error}") from None
        first = len(self.pieces)
        added = tuple(Added(first + index, name) for index, name in enumerate(_special_names()))
        self.settings = TextSettings(
            first,
            first + 1,
            frozenset({first + 1, first + 8, first + 9}),
            add_bos=True,
            added=added,
            special_in_prompts=False,
        )

    def with_settings(self, settings: TextSettings) -> "TiktokenTokenizer":
        """The same pieces with another checkpoint's settings."""
        made = object.__new__(TiktokenTokenizer)
        made.source, made.pieces, made.backend, made.settings = self.source, self.pieces, self.backend, settings
        return made

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return max([len(self.pieces), *(piece.token_id + 1 for piece in self.settings.added)])

    def encode(self, text: str, *, bos: bool = False, special: bool = False, middle: bool = False) -> list[int]:
        """Ids of a text: see Tokenizer; as Meta's code has it, special pieces are text unless asked for."""
        check_text(text)
        ids = beginning(self.settings, bos)
        for stretch, token_id in self._cutter.parts(text) if special else [(text, None)]:
            for start in range(0, len(stretch), _LONGEST_STRETCH):
                ids += self.backend.encode_ordinary(stretch[start : start + _LONGEST_STRETCH])
            if token_id is not None:
                ids.append(token_id)
        return ids

    def _own_piece(self, token_id: int) -> bytes:
        return self.pieces[token_id] if token_id < len(self.pieces) else b""

    def _own_name(self, token_id: int) -> str:
        return written(self.pieces[token_id]) if token_id < len(self.pieces) else ""

    def decoder(self) -> Decoder:
        """Bytes side by side."""
        return ByteLevelDecoder(self)

    @cached_property
    def _cutter(self) -> Cutter:
        return Cutter(self.settings.added)


def is_tiktoken(head: bytes) -> bool:
    r"""Whether a file begins with a line of base64 and a number.

    >>> is_tiktoken(b"IQ== 0\nIg== 1\n")
    True
    """
    piece, _, rank = head.partition(b"\n")[0].partition(b" ")
    try:
        return bool(base64.b64decode(piece, validate=True)) and rank.strip().isdigit()
    except binascii.Error:
        return False


def _read(path: str | os.PathLike[str]) -> list[bytes]:
    name, data = os.fspath(path), map_file(path, "tokenizer")
    if len(data) > MAX_BYTES:
        raise FormatError(f"{name} must be at most {MAX_BYTES:,} bytes; it is larger")
    pieces = list[bytes]()
    for number, line in enumerate(bytes(data).splitlines()):
        piece, _, rank = line.partition(b" ")
        if not rank.isdigit() or int(rank[:12]) != number:
            raise FormatError(f"line {number + 1} of {name} must give a piece the rank {number}; it does not")
        try:
            pieces.append(base64.b64decode(piece, validate=True))
        except binascii.Error as error:
            raise FormatError(f"line {number + 1} of {name} must have a piece in base64; {error}") from None
    if len(set(pieces)) < len(pieces) or not {bytes([byte]) for byte in range(256)} <= set(pieces):
        raise FormatError(f"the pieces of {name} must differ and have every byte among them; they do not")
    return pieces


def _special_names() -> list[str]:
    reserved = iter(range(_RESERVED))
    return [_NAMES.get(index) or f"<|reserved_special_token_{next(reserved)}|>" for index in range(_RESERVED)]
