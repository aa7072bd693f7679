"""A tokenizer from a vocabulary of pieces, scores and kinds, as in tokenizer.bin and GGUF.

The sentencepiece library encodes with it, from a model assembled here, as fast as with a tokenizer.model (500 kB of
text: 0.5 s, where merging in Python took 8 s). Pieces that such a model cannot hold are renamed in it: a repeated
piece (the first one counts), a second unknown piece, an empty one. Without an unknown piece, text that cannot be
spelled is left out; where a byte is missing, no byte is used.
"""

import math
from collections.abc import Sequence

from llamalab.errors import FormatError
from llamalab.text.model_proto import Pieces, write_proto
from llamalab.text.sentencepiece_model import SentencePieceModel, ids_of, piece_bytes
from llamalab.text.settings import TextSettings, infill_of
from llamalab.text.tokenizer import SPACE, Kind


class PieceTokenizer(SentencePieceModel):
    """A tokenizer of pieces, in which U+2581 and a space are the same, with the score and kind of each.

    `settings` are by default those of `bos_id` and `eos_id` alone. Raises FormatError where the lists differ in length,
    BOS or EOS is outside, a score is no number, or a byte piece is none.

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
        bos_id: int | None,
        eos_id: int | None,
        space_first: bool = True,
        settings: TextSettings | None = None,
        name: str = "the vocabulary",
    ) -> None:
        count = len(pieces)
        if len(scores) != count or len(kinds) != count:
            raise FormatError(
                f"a vocabulary must have a score and a kind for each piece; it has {count} pieces, "
                f"{len(scores)} scores and {len(kinds)} kinds"
            )
        if any(index is not None and not 0 <= index < count for index in (bos_id, eos_id)):
            raise FormatError(f"BOS and EOS must be ids of the {count} pieces; they are {bos_id} and {eos_id}")
        if not all(map(math.isfinite, scores)):
            raise FormatError(f"the scores of the pieces of {name} must be finite; some are not")
        for piece, kind in zip(pieces, kinds, strict=True):
            piece_bytes(piece, kind)
        listed = Pieces([piece.replace(" ", SPACE) for piece in pieces], list(scores), list(map(int, kinds)))
        self._count = count
        proto = write_proto(_encodable(listed), bos_id=bos_id, eos_id=eos_id, space_first=space_first)
        unknown_id = listed.kinds.index(Kind.UNKNOWN) if Kind.UNKNOWN in listed.kinds else None
        stops = frozenset(index for index in (eos_id,) if index is not None)
        own = TextSettings(bos_id, eos_id, stops, unknown_id=unknown_id, infill=infill_of(ids_of(listed.texts).get))
        super().__init__(proto, listed, name, settings or own)

    def _ids(self, stretch: str, *, with_space: bool) -> list[int]:
        # The library requires an unknown piece; an added one is after the vocabulary.
        return [token_id for token_id in super()._ids(stretch, with_space=with_space) if token_id < self._count]


def _encodable(pieces: Pieces) -> Pieces:
    texts, kinds = list(pieces.texts), list(pieces.kinds)
    spelled = {text.upper() for text, kind in zip(texts, kinds, strict=True) if kind == Kind.BYTE}
    has_every_byte = spelled >= {f"<0X{byte:02X}>" for byte in range(256)}
    # As in sentencepiece, pieces that occur in text precede those that do not.
    order = sorted(range(len(texts)), key=lambda index: kinds[index] not in (Kind.NORMAL, Kind.USER_DEFINED))
    taken, has_unknown = set[str](), False
    for index in order:
        if kinds[index] == Kind.BYTE:
            texts[index] = f"<0x{texts[index][3:5].upper()}>"
        if kinds[index] not in set(Kind) or (kinds[index] == Kind.BYTE and not has_every_byte):
            kinds[index] = Kind.UNUSED
        if texts[index] in taken or not texts[index] or "\0" in texts[index]:
            texts[index] = f"\ufffe{index}"  # a character that no text has
            kinds[index] = kinds[index] if kinds[index] in (Kind.CONTROL, Kind.UNKNOWN) else Kind.UNUSED
        if kinds[index] == Kind.UNKNOWN:
            kinds[index] = Kind.UNUSED if has_unknown else Kind.UNKNOWN
            has_unknown = True
        taken.add(texts[index])
    if has_unknown:
        return Pieces(texts, pieces.scores, kinds)
    return Pieces([*texts, "\ufffe"], [*pieces.scores, 0.0], [*kinds, Kind.UNKNOWN])
