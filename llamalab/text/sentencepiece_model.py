"""A `tokenizer.model`, read by the sentencepiece library."""

import os

import sentencepiece

from llamalab.errors import FormatError
from llamalab.files import map_file
from llamalab.text.tokenizer import SPACE, UNKNOWN_SURFACE, check_id, check_text


class SentencePieceTokenizer:
    """A `tokenizer.model`; raises FormatError for another file and one without BOS and EOS."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name, content = os.fspath(path), bytes(map_file(path, "tokenizer"))
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_proto=content)
            # All of them now: a piece that is no UTF-8 should fail here and not in the middle of a text.
            self._bytes = [_bytes(self.model, token_id) for token_id in range(self.model.vocab_size())]
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise FormatError(f"{name} must be a sentencepiece model; {reason}") from None
        self.vocab_size: int = len(self._bytes)
        self.bos_id: int = self.model.bos_id()
        self.eos_id: int = self.model.eos_id()
        self.space_first: bool = self.model.normalize("a").startswith(SPACE)
        if self.bos_id < 0 or self.eos_id < 0:
            raise FormatError(f"{name} must have ids for BOS and EOS, as Llama 2 needs them")

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids of a text, with BOS before them where asked. Raises InputError for lone surrogates."""
        check_text(text)
        return [self.bos_id] * bos + list(self.model.encode(text))

    def piece(self, token_id: int) -> bytes:
        """The bytes an id stands for, part of a UTF-8 character perhaps; none for BOS and EOS."""
        check_id(token_id, self.vocab_size)
        return self._bytes[token_id]


def _bytes(model: sentencepiece.SentencePieceProcessor, token_id: int) -> bytes:
    text: str = model.id_to_piece(token_id)
    if model.is_control(token_id):
        return b""
    if model.is_unknown(token_id):
        return UNKNOWN_SURFACE
    return bytes([int(text[3:5], 16)]) if model.is_byte(token_id) else text.replace(SPACE, " ").encode()
