"""A `tokenizer.model`, read by the sentencepiece library."""

import os
import re
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

from llamalab.errors import FormatError
from llamalab.files.mapped import map_file
from llamalab.plain_text import sentence
from llamalab.text.added import Cutter, WithAdded
from llamalab.text.decoders import FallbackDecoder, PieceDecoder
from llamalab.text.model_proto import NO_DUMMY_PREFIX, Pieces, is_bpe, read_pieces
from llamalab.text.settings import Added, TextSettings, infill_of
from llamalab.text.tokenizer import SPACE, UNKNOWN_SURFACE, Decoder, Kind, beginning, check_id, check_text

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


class SentencePieceModel(WithAdded):
    """A SentencePiece model as the library runs it, with the pieces added to it and the settings of its checkpoint.

    Pieces that `settings` adds are cut out of a text first, and may have ids beyond the model's.
    """

    def __init__(self, proto: bytes, pieces: Pieces, name: str, settings: TextSettings) -> None:
        self.proto, self.pieces, self.source = proto, pieces, name
        self.model = _opened(proto, name)
        self._own_space_first: bool = self.model.normalize("a").startswith(SPACE)
        self._bytes = [piece_bytes(text, kind) for text, kind in zip(pieces.texts, pieces.kinds, strict=True)]
        self.settings = settings
        self.space_first = _first(self._own_space_first, settings.rules.space_first)

    def with_settings(self, settings: TextSettings) -> "SentencePieceModel":
        """The same pieces with another checkpoint's settings."""
        made = copy(self)
        made.settings = settings
        made.space_first = _first(self._own_space_first, settings.rules.space_first)
        for name in ("_added", "_cutter", "_every_cutter"):
            made.__dict__.pop(name, None)
        return made

    @cached_property
    def is_plain(self) -> bool:
        """Whether other file formats can hold it: BPE of the text without normalisation."""
        as_it_is = "ａ  ﬁ"
        spaced = (SPACE if self._own_space_first else "") + as_it_is.replace(" ", SPACE)
        return is_bpe(self.proto) and bool(self.model.normalize(as_it_is) == spaced)

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return max([len(self._bytes), *(piece.token_id + 1 for piece in self.settings.added)])

    def encode(self, text: str, *, bos: bool = False, special: bool = False, middle: bool = False) -> list[int]:
        """Ids of a text: see Tokenizer."""
        check_text(text)
        cutter = self._every_cutter if special else self._cutter
        ids = beginning(self.settings, bos)
        for at, (stretch, token_id) in enumerate(cutter.parts(text)):
            if stretch:
                ids += self._ids(stretch, with_space=self._takes_space(stretch, middle=middle, is_first=at == 0))
            if token_id is not None:
                ids.append(token_id)
        return ids

    def _own_piece(self, token_id: int) -> bytes:
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def _own_name(self, token_id: int) -> str:
        return self.pieces.texts[token_id] if token_id < len(self._bytes) else ""

    def decoder(self) -> Decoder:
        """The way back to text, sentencepiece's or transformers'."""
        return FallbackDecoder(self) if self.settings.rules.whole_runs else PieceDecoder(self)

    def kind(self, token_id: int) -> int:
        """The kind of an id."""
        check_id(token_id, self.vocab_size)
        own = self.pieces.kinds[token_id] if token_id < len(self._bytes) else Kind.UNUSED
        if (added := self._added.get(token_id)) is None or own == Kind.UNKNOWN:
            return own
        return Kind.CONTROL if added.special else Kind.USER_DEFINED

    def is_byte(self, token_id: int) -> bool:
        """Whether an id is a single byte of byte fallback."""
        return self.kind(token_id) == Kind.BYTE

    def _takes_space(self, stretch: str, *, middle: bool, is_first: bool) -> bool:
        """Whether a space is put before a stretch of a text: the first, or one behind an added piece."""
        rules = self.settings.rules
        begins = not middle if is_first else rules.space_in_middle
        return self.space_first and begins and (rules.space_before_space or stretch[0] not in (" ", SPACE))

    def _ids(self, stretch: str, *, with_space: bool) -> list[int]:
        if with_space and not self._own_space_first:
            stretch = f" {stretch}"
        ids: list[int] = (self.model if with_space else self._continuing).encode(stretch)
        return ids

    @cached_property
    def _cutter(self) -> Cutter:
        return Cutter([piece for piece in self.settings.added if piece.always])

    @cached_property
    def _every_cutter(self) -> Cutter:
        return Cutter(self.settings.added)

    @cached_property
    def _continuing(self) -> "SentencePieceProcessor":
        """The same model without the space in front."""
        return _opened(self.proto + NO_DUMMY_PREFIX, self.source) if self._own_space_first else self.model


def _first(own: bool, given: bool | None) -> bool:
    return own if given is None else given


class SentencePieceTokenizer(SentencePieceModel):
    """A `tokenizer.model`; raises FormatError for another file and one without BOS and EOS."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name, content = os.fspath(path), bytes(map_file(path, "tokenizer"))
        try:
            model, pieces = _opened(content, name), read_pieces(content)
        except ValueError as error:  # a piece that is no UTF-8 fails here and not in the middle of a text
            raise FormatError(f"{name} must be a sentencepiece model; {error}") from None
        if len(pieces.texts) != model.vocab_size():
            raise FormatError(f"{name} must be a sentencepiece model; its pieces are not those that the library reads")
        bos_id, eos_id, unknown_id, pad_id = model.bos_id(), model.eos_id(), model.unk_id(), model.pad_id()
        if bos_id < 0 or eos_id < 0:
            raise FormatError(f"{name} must have ids for BOS and EOS, as Llama 2 needs them")
        settings = TextSettings(
            bos_id,
            eos_id,
            frozenset({eos_id}),
            unknown_id=unknown_id,
            pad_id=pad_id if pad_id >= 0 else None,
            added=control_pieces(pieces.texts, pieces.kinds),
            infill=infill_of(ids_of(pieces.texts).get),
            special_in_prompts=False,
        )
        super().__init__(content, pieces, name, settings)


def check_plain(tokenizer: SentencePieceModel) -> None:
    """Raise FormatError for a model that other file formats cannot hold."""
    if not tokenizer.is_plain:
        raise FormatError(
            "a SentencePiece model must be BPE without normalisation to be written as another file; "
            f"{tokenizer.source} is of another kind"
        )


def control_pieces(texts: Sequence[str], kinds: Sequence[int]) -> tuple[Added, ...]:
    """Pieces without text, at which a text is split where special pieces are enabled."""
    rows = enumerate(zip(texts, kinds, strict=True))
    return tuple(Added(index, text, always=False) for index, (text, kind) in rows if kind == Kind.CONTROL)


def ids_of(texts: list[str]) -> dict[str, int]:
    """The id of every piece; of two with one text the lower."""
    return {text: index for index, text in reversed(list(enumerate(texts)))}


def _opened(proto: bytes, name: str) -> "SentencePieceProcessor":
    import sentencepiece  # imported here: the command line names tokenizers before it opens one

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=proto)
    except (RuntimeError, ValueError) as error:
        reason = sentence(str(error))
        raise FormatError(f"{name} must be a sentencepiece model; {reason}") from None


def piece_bytes(text: str, kind: int) -> bytes:
    """The bytes of a piece. Raises FormatError for an invalid byte piece."""
    if kind == Kind.CONTROL:
        return b""
    if kind == Kind.UNKNOWN:
        return UNKNOWN_SURFACE.encode()
    if kind == Kind.BYTE:
        if not (spelled := _BYTE.fullmatch(text)):
            raise FormatError(f"a byte piece must be <0x00> to <0xFF>; got {text[:20]!r}")
        return bytes([int(spelled[1], 16)])
    check_text(text)
    return text.replace(SPACE, " ").encode()
