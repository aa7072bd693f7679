"""SentencePiece models: pieces with scores and kinds, and the few settings that affect encoding.

Only these fields of sentencepiece_model.proto are read and written: pieces (1: text 1, score 2, kind 3); of the
trainer_spec (2) model_type 3, vocab_size 4, byte_fallback 35, unk_id 40, bos_id 41, eos_id 42, pad_id 43 and the names
of those, 45 to 48; of the normalizer_spec (3) name 1, add_dummy_prefix 3 and remove_extra_whitespaces 4. The library
has no call that tells user-defined pieces from ordinary ones.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from llamalab.errors import FormatError
from llamalab.text.tokenizer import Kind

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_UNIGRAM, _BPE = 1, 2
# Repeated messages are merged: at the end of a model these bytes switch off the space before a text.
NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class Pieces(NamedTuple):
    """Every piece's text with U+2581 for a space, score and kind."""

    texts: list[str]
    scores: list[float]
    kinds: list[int]


def read_pieces(proto: bytes) -> Pieces:
    """The pieces of a model. Raises FormatError where it is none, ValueError where a piece is no UTF-8."""
    texts, scores, kinds = list[str](), list[float](), list[int]()
    for number, value in _fields(proto):
        if number != 1 or not isinstance(value, bytes):
            continue
        fields = dict(_fields(value))
        text, score, kind = fields.get(1, b""), fields.get(2, b"\0\0\0\0"), fields.get(3, int(Kind.NORMAL))
        if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4 or not isinstance(kind, int):
            raise FormatError("a piece must have a text, a score and a kind; one has others")
        texts.append(text.decode())
        scores.append(struct.unpack("<f", score)[0])
        kinds.append(kind)
    return Pieces(texts, scores, kinds)


def is_bpe(proto: bytes) -> bool:
    """Whether a model is byte-pair encoding; the default of the field is Unigram. Raises FormatError as read_pieces."""
    kind: int | bytes = _UNIGRAM
    for number, value in _fields(proto):
        if number == 2 and isinstance(value, bytes):
            kind = dict(_fields(value)).get(3, kind)
    return kind == _BPE


def write_proto(pieces: Pieces, *, bos_id: int | None, eos_id: int | None, space_first: bool) -> bytes:
    """A BPE model of these pieces, without normalisation."""
    made = bytearray()
    for text, score, kind in zip(*pieces, strict=True):
        body = _text(1, text) + b"\x15" + struct.pack("<f", score) + _number(3, kind)
        made += _message(1, body)
    unknown_id = pieces.kinds.index(Kind.UNKNOWN) if Kind.UNKNOWN in pieces.kinds else -1
    has_bytes = Kind.BYTE in pieces.kinds
    trainer = _number(3, _BPE) + _number(4, len(pieces.texts)) + _number(35, has_bytes)
    ids = (unknown_id, -1 if bos_id is None else bos_id, -1 if eos_id is None else eos_id, -1)
    for field, token_id in zip((40, 41, 42, 43), ids, strict=True):
        trainer += _number(field, token_id)
        if token_id >= 0:
            trainer += _text(field + 5, pieces.texts[token_id])
    normalizer = _text(1, "identity") + _number(3, space_first) + _number(4, 0)
    return bytes(made) + _message(2, trainer) + _message(3, normalizer)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == _VARINT:
            value, at = _varint(data, at)
        else:
            if tag & 7 == _BYTES:
                size, at = _varint(data, at)
            elif tag & 7 in (_FIXED32, _FIXED64):
                size = 4 if tag & 7 == _FIXED32 else 8
            else:
                raise FormatError(f"a field must be of a known wire type; got {tag & 7}")
            if size > len(data) - at:
                raise FormatError("a field must end within the model; it does not")
            value, at = data[at : at + size], at + size
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at
    raise FormatError("a number must end within the model; it does not")


def _as_varint(value: int) -> bytes:
    value &= 2**64 - 1  # a negative number takes ten bytes
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def _number(field: int, value: int) -> bytes:
    return _as_varint(field << 3 | _VARINT) + _as_varint(value)


def _message(field: int, body: bytes) -> bytes:
    return _as_varint(field << 3 | _BYTES) + _as_varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())
