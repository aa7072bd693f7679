"""Which ids stand for a text? The two files that a Llama 2 vocabulary comes in, behind one protocol.

`tokenizer.model` is read by sentencepiece. `tokenizer.bin` (karpathy/llama2.c 350e04f, tokenizer.py:41-70,
run.c:373-560) holds a uint32 max_token_length, then per id a float32 score, a uint32 length and the
bytes of the piece, with a space where sentencepiece writes U+2581; ids 0 to 258 are unknown, BOS,
EOS and the 256 bytes.

Encoding is sentencepiece's byte-pair encoding (bpe_model.cc) without normalisation: a space is
put before a text that is not empty, U+2581 counts as a space, then of all neighbours that make a
piece the pair with the highest score is joined, the leftmost first, and characters that are
no piece are spelled as bytes. Decoding drops the one space that was put in front.
"""

import os
import struct
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

import sentencepiece

from llamalab.errors import FormatError, InputError
from llamalab.files import map_file, replacing
from llamalab.text.bpe import merge

SPACE = "▁"  # how sentencepiece writes a space
_UNKNOWN_SURFACE = " ⁇ ".encode()  # what sentencepiece writes for the unknown piece
_UNKNOWN_ID, _BOS_ID, _EOS_ID, _FIRST_BYTE_ID = 0, 1, 2, 3
_FIRST_NORMAL_ID = _FIRST_BYTE_ID + 256


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

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids of a text, with BOS before them where asked. Raises InputError for lone surrogates."""

    def piece(self, token_id: int) -> bytes:
        """The bytes an id stands for, part of a UTF-8 character perhaps; none for BOS and EOS."""


class SentencePieceTokenizer:
    """A `tokenizer.model`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=bytes(map_file(path, "tokenizer")))
        except (RuntimeError, ValueError) as error:
            raise FormatError(f"{os.fspath(path)} must be a sentencepiece model; {_one_line(error)}") from None
        self.vocab_size: int = self._model.vocab_size()
        self.bos_id: int = self._model.bos_id()
        self.eos_id: int = self._model.eos_id()
        if self.bos_id < 0 or self.eos_id < 0:
            raise FormatError(f"{os.fspath(path)} must have ids for BOS and EOS, as Llama 2 needs them")

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids of a text, with BOS before them where asked. Raises InputError for lone surrogates."""
        _check_text(text)
        return [self.bos_id] * bos + list(self._model.encode(text))

    def piece(self, token_id: int) -> bytes:
        """The bytes an id stands for, part of a UTF-8 character perhaps; none for BOS and EOS."""
        _check_id(token_id, self.vocab_size)
        text: str = self._model.id_to_piece(token_id)
        if self._model.is_control(token_id):
            return b""
        if self._model.is_unknown(token_id):
            return _UNKNOWN_SURFACE
        return bytes([int(text[3:5], 16)]) if self._model.is_byte(token_id) else text.replace(SPACE, " ").encode()


class Llama2cTokenizer:
    """A `tokenizer.bin`."""

    bos_id = _BOS_ID
    eos_id = _EOS_ID

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._pieces, self._scores = _read_pieces(path)
        except InputError as error:
            raise FormatError(f"{os.fspath(path)} must be a llama2.c tokenizer; {error}") from None
        # Only these can come of a merge: a text that spells "<0x41>" or "</s>" stays text.
        normal = range(_FIRST_NORMAL_ID, len(self._pieces))
        # Of two ids with one piece the lower stands for it.
        self._id_of = {self._pieces[token_id]: token_id for token_id in reversed(normal)}

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return len(self._pieces)

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids of a text, with BOS before them where asked. Raises InputError for lone surrogates."""
        _check_text(text)
        ids = [self.bos_id] * bos
        for part in merge(" " + text.replace(SPACE, " ") if text else "", self._score):
            known = self._id_of.get(part)
            ids += [_FIRST_BYTE_ID + byte for byte in part.encode()] if known is None else [known]
        return ids

    def piece(self, token_id: int) -> bytes:
        """The bytes an id stands for, part of a UTF-8 character perhaps; none for BOS and EOS."""
        _check_id(token_id, self.vocab_size)
        if token_id >= _FIRST_NORMAL_ID:
            return self._pieces[token_id].encode()
        if token_id >= _FIRST_BYTE_ID:
            return bytes([token_id - _FIRST_BYTE_ID])
        return _UNKNOWN_SURFACE if token_id == _UNKNOWN_ID else b""

    def _score(self, part: str) -> float | None:
        token_id = self._id_of.get(part)
        return None if token_id is None else self._scores[token_id]


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Open a `tokenizer.model` or `tokenizer.bin`, told apart by content.

    Raises MissingError where there is no file, FormatError where it is neither.
    """
    head = map_file(path, "tokenizer")[:4]
    # A model begins with field 1, the first piece, whose own field 1 is its text; in tokenizer.bin
    # the third byte belongs to a max_token_length below 2**16 and is 0.
    if head[:1] == b"\n" and head[2:3] == b"\n":
        return SentencePieceTokenizer(path)
    if len(head) == 4 and head[2:] == b"\0\0":
        return Llama2cTokenizer(path)
    raise FormatError(
        f"the tokenizer must be a sentencepiece tokenizer.model or a llama2.c tokenizer.bin; {os.fspath(path)} is "
        f"neither: it begins with the bytes {head.hex(' ')}"
    )


def decode_stream(tokenizer: Tokenizer, token_ids: Iterable[int]) -> Iterator[str]:
    """Text as its ids arrive: a character is held back until the last of its bytes is there.

    The space that encoding puts before a text is left out. Bytes that are not UTF-8 become U+FFFD.
    """
    decoder = getincrementaldecoder("utf-8")("replace")
    at_start = True
    for token_id in token_ids:
        piece = tokenizer.piece(token_id)
        if at_start and piece:
            piece, at_start = piece.removeprefix(b" "), False
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def decode(tokenizer: Tokenizer, token_ids: Iterable[int]) -> str:
    """The whole text of some ids: see decode_stream."""
    return "".join(decode_stream(tokenizer, token_ids))


def write_tokenizer_bin(path: str | os.PathLike[str], model_path: str | os.PathLike[str]) -> None:
    """Convert a Llama 2 `tokenizer.model` to llama2.c's `tokenizer.bin`.

    Raises FormatError for a model whose first ids are not unknown, BOS, EOS and the 256 bytes.
    """
    source = SentencePieceTokenizer(model_path)
    model = source._model
    pieces = [model.id_to_piece(token_id).replace(SPACE, " ").encode() for token_id in range(source.vocab_size)]
    pieces[_BOS_ID], pieces[_EOS_ID] = b"\n<s>\n", b"\n</s>\n"
    _check_fixed_pieces([piece.decode() for piece in pieces[:_FIRST_NORMAL_ID]])
    with replacing(path) as file:
        _write_pieces(file, pieces, [model.get_score(token_id) for token_id in range(source.vocab_size)])


def _write_pieces(file: BinaryIO, pieces: list[bytes], scores: list[float]) -> None:
    file.write(struct.pack("<I", max(map(len, pieces))))
    for piece, score in zip(pieces, scores, strict=True):
        file.write(struct.pack("<fI", score, len(piece)) + piece)


def _read_pieces(path: str | os.PathLike[str]) -> tuple[list[str], list[float]]:
    data = map_file(path, "tokenizer")
    if len(data) < 4:
        raise FormatError(f"it must begin with 4 bytes of max_token_length; it has {len(data)}")
    (longest,) = struct.unpack_from("<I", data)
    pieces: list[str] = []
    scores: list[float] = []
    at = 4
    while at < len(data):
        where = f"piece {len(pieces)} at byte {at:,}"
        if at + 8 > len(data):
            raise FormatError(f"{where} must have 8 bytes of score and length; the file is cut short")
        score, length = struct.unpack_from("<fI", data, at)
        at += 8
        if not 1 <= length <= min(longest, len(data) - at):
            raise FormatError(
                f"{where} must be 1 to {longest} bytes long and end within the file; its length is {length}"
            )
        if not abs(score) < float("inf"):
            raise FormatError(f"{where} must have a finite score; got {score}")
        try:
            pieces.append(data[at : at + length].decode())
        except UnicodeDecodeError:
            raise FormatError(f"{where} must be UTF-8; got {data[at : at + length].hex(' ')}") from None
        scores.append(score)
        at += length
    _check_fixed_pieces(pieces[:_FIRST_NORMAL_ID])
    return pieces, scores


def _check_fixed_pieces(pieces: list[str]) -> None:
    expected = [f"<0x{byte:02X}>" for byte in range(256)]
    if pieces[_FIRST_BYTE_ID:] != expected:
        raise FormatError(
            f"pieces {_FIRST_BYTE_ID} to {_FIRST_NORMAL_ID - 1} must be <0x00> to <0xFF>, as in Llama 2; they are not"
        )


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a text must be Unicode that UTF-8 can write; character {error.start} is not") from None


def _check_id(token_id: int, vocab_size: int) -> None:
    if not 0 <= token_id < vocab_size:
        raise InputError(f"a token id must be from 0 to {vocab_size - 1}; got {token_id}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
