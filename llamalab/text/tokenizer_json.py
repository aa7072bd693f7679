"""A `tokenizer.json`, read by the tokenizers library: byte-pair encoding with byte fallback, or over bytes.

The first kind is a SentencePiece model as transformers saves it, U+2581 for a space and <0x00> to <0xFF> for bytes;
the second is Llama 3's. Decoding is the library's with special tokens left out: bytes that fall back make text only
where the whole run of them is UTF-8, else one U+FFFD each; over bytes one U+FFFD stands for each broken sequence.
"""

import json
import os
import re
from copy import copy
from functools import cached_property
from typing import Any

import tokenizers

from llamalab.errors import FormatError
from llamalab.files.inputs import MOST_BYTES, read_object
from llamalab.plain_text import sentence
from llamalab.text.added import WithAdded, added_token
from llamalab.text.byte_level import spelled
from llamalab.text.decoders import ByteLevelDecoder, FallbackDecoder
from llamalab.text.settings import MAX_ID, Added, TextSettings, infill_of
from llamalab.text.tokenizer import SPACE, Decoder, beginning, check_text

_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


class JsonTokenizer(WithAdded):
    """The library's tokenizer of a description; raises FormatError for one of another kind or that it refuses."""

    def __init__(self, description: dict[str, Any], name: str, settings: TextSettings | None = None) -> None:
        self.description, self.source = description, name
        kinds = _types(description.get("decoder"))
        self.is_byte_level = "ByteLevel" in kinds
        model = description.get("model")
        if not isinstance(model, dict) or model.get("type") != "BPE" or not kinds & {"ByteLevel", "ByteFallback"}:
            kind = model.get("type") if isinstance(model, dict) else None
            raise FormatError(
                f"{name} must be byte-pair encoding over bytes or with byte fallback, as Llama's is; its model is "
                f"{kind!r} and its decoder {', '.join(sorted(kinds)) or 'none'}"
            )
        self.backend = _built(description, name)
        vocabulary = self.backend.get_vocab(with_added_tokens=True)
        if not vocabulary or max(vocabulary.values()) >= MAX_ID:
            raise FormatError(f"{name} must have pieces with ids below {MAX_ID:,}; it does not")
        self.texts: dict[int, str] = {token_id: text for text, token_id in vocabulary.items()}
        self.settings = self._own_settings() if settings is None else settings
        self.space_first = "Strip" in kinds or "Metaspace" in kinds

    def with_settings(self, settings: TextSettings) -> "JsonTokenizer":
        """The same with another checkpoint's settings; pieces that these add are added to it."""
        known = {token["content"] for token in self._added_here()}
        more = [piece for piece in settings.added if piece.text not in known]
        if more:
            model = dict(self.description["model"])
            # The library numbers added pieces after the last one; a piece of the model keeps its id.
            model["vocab"] = {piece.text: piece.token_id for piece in more} | model["vocab"]
            added = [*self._added_here(), *map(added_token, more)]
            return JsonTokenizer(self.description | {"model": model, "added_tokens": added}, self.source, settings)
        made = copy(self)
        made.settings = settings
        made.__dict__.pop("_added", None)
        return made

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return max(self.texts) + 1

    def encode(self, text: str, *, bos: bool = False, special: bool = False, middle: bool = False) -> list[int]:
        """Ids of a text: see Tokenizer; special tokens in it are read as such unless the checkpoint splits them."""
        check_text(text)
        backend = self._continuing if middle else self.backend
        backend.encode_special_tokens = not (special or self.settings.special_in_prompts)
        return beginning(self.settings, bos) + _encoded(backend, text, self.source)

    def _own_piece(self, token_id: int) -> bytes:
        text = self.texts.get(token_id, "")
        if self.is_byte_level:
            return spelled(text)
        byte = _BYTE.fullmatch(text)
        return bytes([int(byte[1], 16)]) if byte else text.replace(SPACE, " ").encode()

    def _own_name(self, token_id: int) -> str:
        return self.texts.get(token_id, "")

    def is_byte(self, token_id: int) -> bool:
        """Whether an id is a single byte of byte fallback."""
        plain = token_id not in self._added and not self.is_byte_level
        return plain and _BYTE.fullmatch(self.texts.get(token_id, "")) is not None

    def id_of(self, text: str) -> int | None:
        """The id of a piece, where there is one."""
        found: int | None = self.backend.token_to_id(text)
        return found

    def decoder(self) -> Decoder:
        """The library's way back to text."""
        return ByteLevelDecoder(self) if self.is_byte_level else FallbackDecoder(self)

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        """The same without a space in front of a text."""
        return _built(_without_prefix(self.description), self.source) if self.space_first else self.backend

    def _added_here(self) -> list[dict[str, Any]]:
        return [token for token in self.description.get("added_tokens") or [] if isinstance(token, dict)]

    def _own_settings(self) -> TextSettings:
        added = tuple(
            Added(
                token_id,
                token["content"],
                special=bool(token.get("special")),
                lstrip=bool(token.get("lstrip")),
                rstrip=bool(token.get("rstrip")),
                single_word=bool(token.get("single_word")),
            )
            for token in self._added_here()
            if (token_id := self.id_of(token["content"])) is not None
        )
        plain, whole = (_encoded(self.backend, "a", self.source, add=add) for add in (False, True))
        first = next((at for at in range(len(whole)) if whole[at : at + len(plain)] == plain), 0)
        before, after = whole[:first], whole[first + len(plain) :]
        return TextSettings(
            bos_id=before[0] if len(before) == 1 else None,
            eos_id=after[0] if len(after) == 1 else None,
            add_bos=bool(before),
            add_eos=bool(after),
            added=added,
            infill=infill_of(self.id_of),
        )


def read_tokenizer_json(path: str | os.PathLike[str]) -> JsonTokenizer:
    """Open a file. Raises MissingError where there is none, FormatError where it is of another kind or unsound."""
    return JsonTokenizer(read_object(path, "tokenizer", most=MOST_BYTES), os.fspath(path))


def _built(description: dict[str, Any], name: str) -> tokenizers.Tokenizer:
    # Truncation and padding are no part of the vocabulary.
    text = json.dumps(description | {"truncation": None, "padding": None})
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        raise _refusal(error, name) from None


def _encoded(backend: tokenizers.Tokenizer, text: str, name: str, *, add: bool = False) -> list[int]:
    try:
        ids: list[int] = backend.encode(text, add_special_tokens=add).ids
        return ids
    except BaseException as error:
        raise _refusal(error, name) from None


def _refusal(error: BaseException, name: str) -> BaseException:
    """The error to raise: on some input the library panics with an exception that is no subclass of Exception."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return FormatError(f"{name} must be a sound tokenizer.json; {sentence(str(error), 200)}")
    return error


def _types(part: Any) -> set[str]:
    """The kinds of a decoder and of all within it."""
    if isinstance(part, dict):
        own = {part["type"]} if isinstance(part.get("type"), str) else set()
        return own.union(*map(_types, part.values()))
    return set().union(*map(_types, part)) if isinstance(part, list) else set()


def _without_prefix(part: Any) -> Any:
    """A description without the rule that puts a space before a text."""
    if isinstance(part, list):
        return [_without_prefix(item) for item in part if not _is_prepend(item)]
    if not isinstance(part, dict):
        return part
    changed = {}
    for key, value in part.items():
        if key in ("model", "added_tokens"):
            changed[key] = value
        elif key == "prepend_scheme":
            changed[key] = "never"
        elif key == "add_prefix_space":
            changed[key] = False
        else:
            changed[key] = None if _is_prepend(value) else _without_prefix(value)
    return changed


def _is_prepend(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "Prepend"
