"""A vocabulary of pieces, scores and kinds is a tokenizer: what tokenizer.bin and GGUF hold.

User-defined pieces are taken out of the text first, the longest where several begin; what lies
between them is byte-pair encoded. A character that is no piece is spelled in byte pieces, and
where the vocabulary has none, a run of such characters is the unknown piece.
"""

import re
from collections.abc import Iterator, Sequence

from llamalab.errors import FormatError
from llamalab.text.bpe import merge
from llamalab.text.tokenizer import SPACE, UNKNOWN_SURFACE, Kind, check_id, check_text

_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


class PieceTokenizer:
    """A tokenizer of pieces, in which U+2581 and a space are the same, with the score and kind of each.

    Raises FormatError where the lists differ in length, BOS or EOS is outside, or a byte piece is none.

    >>> kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, Kind.NORMAL, Kind.NORMAL, Kind.NORMAL]
    >>> tokenizer = PieceTokenizer(["<unk>", "<s>", "</s>", "▁", "a", "▁a"], [0.0] * 6, kinds, bos_id=1, eos_id=2)
    >>> tokenizer.encode("a b", bos=True)
    [1, 5, 3, 0]
    """

    def __init__(
        self,
        pieces: Sequence[str],
        scores: Sequence[float],
        kinds: Sequence[int],
        *,
        bos_id: int,
        eos_id: int,
        space_first: bool = True,
    ) -> None:
        count = len(pieces)
        if len(scores) != count or len(kinds) != count:
            raise FormatError(
                f"a vocabulary must have a score and a kind for each piece; it has {count} pieces, "
                f"{len(scores)} scores and {len(kinds)} kinds"
            )
        if not (0 <= bos_id < count and 0 <= eos_id < count):
            raise FormatError(f"BOS and EOS must be ids of the {count} pieces; they are {bos_id} and {eos_id}")
        self.vocab_size, self.bos_id, self.eos_id = count, bos_id, eos_id
        self.space_first = space_first
        self.pieces, self.scores, self.kinds = pieces, scores, kinds
        self._bytes = [_bytes(text, kind) for text, kind in zip(pieces, kinds, strict=True)]
        # Only these can come of a text: one that spells "<0x41>" or "</s>" stays text. Of two ids
        # with one piece the lower stands for it.
        self._id_of = _ids(pieces, kinds, Kind.NORMAL)
        byte_ids = (token_id for token_id in reversed(range(count)) if kinds[token_id] == Kind.BYTE)
        self._byte_ids = {self._bytes[token_id]: token_id for token_id in byte_ids}
        self.unknown_id = next((token_id for token_id in range(count) if kinds[token_id] == Kind.UNKNOWN), None)
        self._defined = _ids(pieces, kinds, Kind.USER_DEFINED)
        longest_first = sorted(filter(None, self._defined), key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids of a text, with BOS before them where asked. Raises InputError for lone surrogates."""
        check_text(text)
        text = text.replace(SPACE, " ")
        if text and self.space_first:
            text = " " + text
        return [self.bos_id] * bos + list(self._encode(text))

    def piece(self, token_id: int) -> bytes:
        """The bytes an id stands for, part of a UTF-8 character perhaps; none for BOS and EOS."""
        check_id(token_id, self.vocab_size)
        return self._bytes[token_id]

    def _encode(self, text: str) -> Iterator[int]:
        was_unknown = False
        for part in self._parts(text):
            known = self._defined.get(part) if part in self._defined else self._id_of.get(part)
            ids = [known] if known is not None else self._spelled(part)
            is_unknown = not ids
            if is_unknown and not was_unknown and self.unknown_id is not None:
                ids = [self.unknown_id]
            was_unknown = is_unknown
            yield from ids

    def _parts(self, text: str) -> Iterator[str]:
        for at, stretch in enumerate(self._cut.split(text) if self._cut else [text]):
            if at % 2:
                yield stretch  # a user-defined piece
            else:
                yield from merge(stretch, self._score)

    def _score(self, part: str) -> float | None:
        token_id = self._id_of.get(part)
        return None if token_id is None else self.scores[token_id]

    def _spelled(self, part: str) -> list[int]:
        """Its bytes as ids; none where a byte is missing."""
        ids = [self._byte_ids.get(bytes([byte])) for byte in part.encode()]
        return [] if None in ids else [token_id for token_id in ids if token_id is not None]


def _ids(pieces: Sequence[str], kinds: Sequence[int], kind: Kind) -> dict[str, int]:
    chosen = (token_id for token_id in reversed(range(len(pieces))) if kinds[token_id] == kind)
    return {pieces[token_id].replace(SPACE, " "): token_id for token_id in chosen}


def _bytes(text: str, kind: int) -> bytes:
    if kind == Kind.CONTROL:
        return b""
    if kind == Kind.UNKNOWN:
        return UNKNOWN_SURFACE
    if kind == Kind.BYTE:
        if not (spelled := _BYTE.fullmatch(text)):
            raise FormatError(f"a byte piece must be <0x00> to <0xFF>; got {text[:20]!r}")
        return bytes([int(spelled[1], 16)])
    check_text(text)
    return text.replace(SPACE, " ").encode()
