"""llama2.c's `tokenizer.bin`, read and written.

It holds a uint32 max_token_length, then per id a float32 score, a uint32 length and the bytes of the
piece, with a space where sentencepiece writes U+2581; ids 0 to 258 are unknown, BOS, EOS and the
256 bytes (karpathy/llama2.c 350e04f, tokenizer.py:41-70, run.c:373-560). Files of July 2023 write each byte as the
character of that number, or as a byte that is no UTF-8; run.c goes by the id and still reads them. A text
ends at BOS as at EOS, since run.c takes BOS for the end.
"""

import os
import struct

from llamalab.errors import FormatError, InputError
from llamalab.files.mapped import map_file
from llamalab.files.outputs import replacing
from llamalab.text.pieces import PieceTokenizer
from llamalab.text.sentencepiece_model import (
    SentencePieceModel,
    SentencePieceTokenizer,
    check_plain,
    control_pieces,
    ids_of,
)
from llamalab.text.settings import TextSettings, infill_of
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
        for index in (_BOS_ID, _EOS_ID):
            pieces[index] = pieces[index].strip()  # llama2.c puts them on lines of their own
        settings = TextSettings(
            _BOS_ID,
            _EOS_ID,
            frozenset({_BOS_ID, _EOS_ID}),
            unknown_id=0,
            added=control_pieces(pieces, kinds),
            infill=infill_of(ids_of([piece.replace(" ", SPACE) for piece in pieces]).get),
            special_in_prompts=False,
        )
        super().__init__(pieces, scores, kinds, bos_id=_BOS_ID, eos_id=_EOS_ID, settings=settings, name=os.fspath(path))


def write_tokenizer_bin(path: str | os.PathLike[str], model_path: str | os.PathLike[str]) -> None:
    """Convert a Llama 2 `tokenizer.model` to llama2.c's `tokenizer.bin`.

    Raises FormatError for a model whose first ids are not unknown, BOS, EOS and the 256 bytes.
    """
    with replacing(path) as file:
        file.write(tokenizer_bin(SentencePieceTokenizer(model_path)))


def tokenizer_bin(source: SentencePieceModel) -> bytes:
    """The file of a tokenizer, of the model's own pieces. Raises FormatError as write_tokenizer_bin does."""
    check_plain(source)
    pieces = [piece.replace(SPACE, " ").encode() for piece in source.pieces.texts]
    _check_fixed_pieces([piece.decode() for piece in pieces[:_FIRST_NORMAL_ID]])
    pieces[_BOS_ID], pieces[_EOS_ID] = b"\n<s>\n", b"\n</s>\n"
    made = struct.pack("<I", max(map(len, pieces)))
    rows = zip(pieces, source.pieces.scores, strict=True)
    return made + b"".join(struct.pack("<fI", score, len(piece)) + piece for piece, score in rows)


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
        pieces.append(_text(data[at : at + length], len(pieces), where))
        scores.append(score)
        at += length
    _check_fixed_pieces(pieces[:_FIRST_NORMAL_ID])
    return pieces, scores


def _text(piece: bytes, token_id: int, where: str) -> str:
    byte = token_id - _FIRST_BYTE_ID
    if 0 <= byte < 256 and piece in (chr(byte).encode(), bytes([byte])):
        return f"<0x{byte:02X}>"
    try:
        return piece.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{where} must be UTF-8; got {piece.hex(' ')}") from None


def _check_fixed_pieces(pieces: list[str]) -> None:
    expected = [f"<0x{byte:02X}>" for byte in range(256)]
    if pieces[_FIRST_BYTE_ID:] != expected:
        raise FormatError(
            f"pieces {_FIRST_BYTE_ID} to {_FIRST_NORMAL_ID - 1} must be <0x00> to <0xFF>, as in Llama 2; they are not"
        )
