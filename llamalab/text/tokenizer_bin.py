"""llama2.c's `tokenizer.bin`, read and written.

It holds a uint32 max_token_length, then per id a float32 score, a uint32 length and the bytes of the
piece, with a space where sentencepiece writes U+2581; ids 0 to 258 are unknown, BOS, EOS and the
256 bytes (karpathy/llama2.c 350e04f, tokenizer.py:41-70, run.c:373-560).
"""

import os
import struct
from typing import BinaryIO

from llamalab.errors import FormatError, InputError
from llamalab.files import map_file, replacing
from llamalab.text.pieces import PieceTokenizer
from llamalab.text.sentencepiece_model import SentencePieceTokenizer
from llamalab.text.tokenizer import SPACE, Kind

_BOS_ID, _EOS_ID, _FIRST_BYTE_ID = 1, 2, 3
_FIRST_NORMAL_ID = _FIRST_BYTE_ID + 256
_FIXED_KINDS = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.BYTE] * 256]


class Llama2cTokenizer(PieceTokenizer):
    """A `tokenizer.bin`; raises FormatError for another file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            pieces, scores = _read_pieces(path)
        except InputError as error:
            raise FormatError(f"{os.fspath(path)} must be a llama2.c tokenizer; {error}") from None
        kinds = [*_FIXED_KINDS, *[Kind.NORMAL] * (len(pieces) - _FIRST_NORMAL_ID)]
        super().__init__(pieces, scores, kinds, bos_id=_BOS_ID, eos_id=_EOS_ID)


def write_tokenizer_bin(path: str | os.PathLike[str], model_path: str | os.PathLike[str]) -> None:
    """Convert a Llama 2 `tokenizer.model` to llama2.c's `tokenizer.bin`.

    Raises FormatError for a model whose first ids are not unknown, BOS, EOS and the 256 bytes.
    """
    source = SentencePieceTokenizer(model_path)
    model = source.model
    pieces = [model.id_to_piece(token_id).replace(SPACE, " ").encode() for token_id in range(source.vocab_size)]
    _check_fixed_pieces([piece.decode() for piece in pieces[:_FIRST_NORMAL_ID]])
    pieces[_BOS_ID], pieces[_EOS_ID] = b"\n<s>\n", b"\n</s>\n"
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
