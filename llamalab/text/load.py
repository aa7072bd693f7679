"""Tokenizers from files: the kind is told by content, not by name."""

import os
from pathlib import Path

from llamalab.errors import FormatError, MissingError
from llamalab.files import map_file
from llamalab.text.sentencepiece_model import SentencePieceTokenizer
from llamalab.text.tokenizer import Tokenizer
from llamalab.text.tokenizer_bin import Llama2cTokenizer

_NAMES = ("tokenizer.model", "tokenizer.bin")


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Open a `tokenizer.model`, a `tokenizer.bin`, a GGUF file's vocabulary, or a folder with one of the first two.

    Raises MissingError where there is no file, FormatError where it is none of these.
    """
    if os.path.isdir(path):
        path = _in_folder(Path(path))
    head = map_file(path, "tokenizer")[:4]
    if head == b"GGUF":
        from llamalab.text.gguf_vocabulary import gguf_tokenizer

        return gguf_tokenizer(path)
    # A model begins with field 1, the first piece, whose own field 1 is its text; in tokenizer.bin
    # the third byte belongs to a max_token_length below 2**16 and is 0.
    if head[:1] == b"\n" and head[2:3] == b"\n":
        return SentencePieceTokenizer(path)
    if len(head) == 4 and head[2:] == b"\0\0":
        return Llama2cTokenizer(path)
    raise FormatError(
        f"the tokenizer must be a sentencepiece tokenizer.model, a llama2.c tokenizer.bin or a GGUF file; "
        f"{os.fspath(path)} is none: it begins with the bytes {head.hex(' ')}"
    )


def tokenizer_of(checkpoint: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer that comes with a checkpoint: a GGUF file's own, or one that lies in or beside it.

    Raises MissingError where none does.
    """
    path = Path(checkpoint)
    if path.is_dir():
        return load_tokenizer(path)
    if path.is_file() and map_file(path, "checkpoint")[:4] == b"GGUF":
        return load_tokenizer(path)
    return load_tokenizer(_in_folder(path.parent))


def _in_folder(folder: Path) -> Path:
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    raise MissingError(
        f"a tokenizer must be there: {' or '.join(_NAMES)}; {folder} has none; name one with --tokenizer"
    )
