"""Tokenizers from files, whose kind is recognised by content, not by name."""

import os
from codecs import BOM_UTF8
from pathlib import Path

from llamalab.errors import FormatError, MissingError
from llamalab.files.inputs import IS_POINTER, POINTER
from llamalab.files.mapped import map_file
from llamalab.text.hf_settings import has_side_files, read_side_files, settings_from
from llamalab.text.sentencepiece_model import SentencePieceModel, SentencePieceTokenizer, ids_of
from llamalab.text.settings import Added, Rules
from llamalab.text.tokenizer import Tokenizer
from llamalab.text.tokenizer_bin import Llama2cTokenizer

# In this order: where tokenizer.json and tokenizer.model lie side by side, transformers reads the first.
MODEL = "tokenizer.model"
TOKENIZER_FILES = ("tokenizer.json", MODEL, "tokenizer.bin")


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Open a tokenizer: `tokenizer.json`, `.model` (SentencePiece or tiktoken), `.bin`, a GGUF file's, or a folder's.

    A folder's has the settings of the files beside it, and so has a tokenizer.json. Raises MissingError where there
    is no file, FormatError where it is none of these.
    """
    if os.path.isdir(path):
        folder = Path(path)
        file = _in_folder(folder)
        return _with_side_files(_read(file), folder) if has_side_files(folder) else _read(file)
    tokenizer = _read(Path(path))
    is_json = not isinstance(tokenizer, SentencePieceModel) and map_file(path, "tokenizer")[:1] == b"{"
    return _with_side_files(tokenizer, Path(path).parent) if is_json else tokenizer


def load_vocabulary(path: str | os.PathLike[str]) -> Tokenizer:
    """The same for a format that stores pieces: of a folder's tokenizer.json and tokenizer.model the second.

    It alone has scores and kinds of pieces; it is taken where both have the same.
    """
    from llamalab.text.tokenizer_json import JsonTokenizer

    tokenizer, beside = load_tokenizer(path), Path(path) / MODEL
    if not isinstance(tokenizer, JsonTokenizer) or not beside.is_file():
        return tokenizer
    model = _read(beside)
    if not isinstance(model, SentencePieceModel):
        return tokenizer
    same = all(tokenizer.texts.get(index) == text for index, text in enumerate(model.pieces.texts))
    settings = tokenizer.settings._replace(rules=Rules(space_first=tokenizer.space_first))
    return model.with_settings(settings) if same else tokenizer


def tokenizer_of(checkpoint: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a checkpoint: a GGUF file's own, or one in its folder.

    Raises MissingError where none does.
    """
    path = Path(checkpoint)
    if not os.path.exists(path):
        raise MissingError(
            f"the checkpoint must exist; there is none at {path}; give the path of a file or folder on this machine "
            "(nothing is downloaded)"
        )
    if path.is_dir():
        return load_tokenizer(path)
    if path.is_file():
        head = map_file(path, "checkpoint")[:256]
        if head[:4] == b"GGUF":
            return load_tokenizer(path)
        if head.startswith(POINTER):
            raise FormatError(f"the checkpoint must hold its weights; {path} is {_nature(head)}")
    return load_tokenizer(_in_folder(path.parent))


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies in a folder."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _read(path: Path) -> Tokenizer:
    head = map_file(path, "tokenizer")[:256]
    if head[:4] == b"GGUF":
        from llamalab.text.gguf_vocabulary import gguf_tokenizer

        return gguf_tokenizer(path)
    if head.removeprefix(BOM_UTF8).lstrip()[:1] == b"{":
        from llamalab.text.tokenizer_json import read_tokenizer_json

        return read_tokenizer_json(path)
    # A model begins with field 1, the first piece, whose own field 1 is its text; in tokenizer.bin
    # the third byte belongs to a max_token_length below 2**16 and is 0.
    if head[:1] == b"\n" and head[2:3] == b"\n":
        return SentencePieceTokenizer(path)
    if len(head) >= 4 and head[2:4] == b"\0\0":
        return Llama2cTokenizer(path)
    from llamalab.text.tiktoken_file import TiktokenTokenizer, is_tiktoken

    if is_tiktoken(head):
        return TiktokenTokenizer(path)
    raise FormatError(
        f"the tokenizer must be a tokenizer.json, a sentencepiece or tiktoken tokenizer.model, a llama2.c "
        f"tokenizer.bin or a GGUF file; {os.fspath(path)} is {_nature(head)}"
    )


def _nature(head: bytes) -> str:
    if head.startswith(POINTER):
        return IS_POINTER
    return f"none: it begins with the bytes {head[:4].hex(' ')}"


def _with_side_files(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """A vocabulary with the settings of the files in its folder."""
    from llamalab.text.tiktoken_file import TiktokenTokenizer
    from llamalab.text.tokenizer_json import JsonTokenizer

    files, base = read_side_files(folder), tokenizer.settings
    if isinstance(tokenizer, JsonTokenizer):
        made = settings_from(files, base, id_of=tokenizer.id_of, vocab_size=tokenizer.vocab_size)
        return tokenizer.with_settings(made)
    if isinstance(tokenizer, TiktokenTokenizer):
        ids = {piece.text: piece.token_id for piece in base.added}
        base = base._replace(special_in_prompts=True)
        return tokenizer.with_settings(settings_from(files, base, id_of=ids.get, vocab_size=tokenizer.vocab_size))
    assert isinstance(tokenizer, SentencePieceModel)
    ids = ids_of(tokenizer.pieces.texts)
    if files.config or files.tokenizer:
        # transformers reads the model's special pieces in a text even where no file names them.
        own = [piece._replace(always=True) for piece in base.added if files.keeps(piece.token_id, base)]
        if base.unknown_id is not None and "unk_token" not in files.tokenizer:
            own.append(Added(base.unknown_id, tokenizer.name(base.unknown_id)))
        base = base._replace(added=tuple(own), special_in_prompts=True, rules=files.rules)
    made = settings_from(files, base, id_of=ids.get, vocab_size=tokenizer.vocab_size)
    return tokenizer.with_settings(made)


def _in_folder(folder: Path) -> Path:
    # In Meta's own layout one tokenizer is beside the folders of its models.
    places = [folder, folder.parent] if (folder / "params.json").is_file() else [folder]
    for place in places:
        for name in TOKENIZER_FILES:
            if (place / name).is_file():
                return place / name
    seen = sorted(entry.name for entry in folder.iterdir())
    shown = ", ".join(seen[:6]) + (f" and {len(seen) - 6} more" if len(seen) > 6 else "")
    raise MissingError(
        f"a tokenizer must be there: {', '.join(TOKENIZER_FILES[:-1])} or {TOKENIZER_FILES[-1]}; {folder} has none, "
        f"only {shown or 'nothing'}; give the path of one"
    )
