"""The vocabulary of a GGUF file as a tokenizer: SentencePiece's, as Llama 2's, or over bytes, as Llama 3's."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from llamalab.errors import FormatError
from llamalab.text.descriptions import over_bytes
from llamalab.text.pieces import PieceTokenizer
from llamalab.text.settings import Rules
from llamalab.text.tiktoken_file import LLAMA_3_PATTERN
from llamalab.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llamalab.text.gguf_text import Vocabulary

GPT_2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# How a text is cut before it is encoded, by the names that llama.cpp has for it.
PATTERNS = {
    "llama-bpe": LLAMA_3_PATTERN,
    "llama3": LLAMA_3_PATTERN,
    "llama-v3": LLAMA_3_PATTERN,
    "gpt-2": GPT_2_PATTERN,
    "default": GPT_2_PATTERN,
    "": GPT_2_PATTERN,
}


def gguf_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Open it. Raises FormatError for a vocabulary of another kind, or one that is not sound."""
    from llamalab.text.gguf_text import BYTE_LEVEL, SENTENCEPIECE, vocabulary  # imported here: its package needs torch

    words, name = vocabulary(Path(path)), os.fspath(path)
    try:
        pieces = [piece.decode() for piece in words.pieces]
    except UnicodeDecodeError as error:
        raise FormatError(f"the pieces of {name} must be UTF-8; got {error.object[:20]!r}") from None
    if words.model == BYTE_LEVEL:
        return _byte_level(words, pieces, name)
    if words.model != SENTENCEPIECE:
        raise FormatError(
            f"the vocabulary of {name} must be of kind {SENTENCEPIECE!r} (SentencePiece) or {BYTE_LEVEL!r} (over "
            f"bytes); it is {words.model!r}"
        )
    return model_of(words, name)


def model_of(words: "Vocabulary", name: str) -> PieceTokenizer:
    """A SentencePiece vocabulary as a tokenizer. Raises FormatError for one that is not sound."""
    # The library cuts user-defined pieces out itself. Behind the others llama.cpp puts a space, as before a text.
    added = tuple(piece for piece in words.settings.added if not piece.always)
    return PieceTokenizer(
        [piece.decode() for piece in words.pieces],
        words.scores,
        words.types,
        bos_id=words.settings.bos_id,
        eos_id=words.settings.eos_id,
        space_first=words.add_space_prefix,
        settings=words.settings._replace(added=added, rules=Rules(space_in_middle=True)),
        name=name,
    )


def _byte_level(words: "Vocabulary", pieces: list[str], name: str) -> Tokenizer:
    from llamalab.text.tokenizer_json import JsonTokenizer

    if words.pre not in PATTERNS:
        raise FormatError(
            f"tokenizer.ggml.pre of {name} must be one of {', '.join(filter(None, PATTERNS))}; it is {words.pre!r}"
        )
    merges = []
    for merge in words.merges:
        left, _, right = merge.decode("utf-8", "replace").partition(" ")
        merges.append((left, right))
    description = over_bytes(pieces, merges, words.settings.added, PATTERNS[words.pre])
    return JsonTokenizer(description, name, words.settings)
