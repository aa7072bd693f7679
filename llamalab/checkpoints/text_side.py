"""The text side of a conversion: the tokenizer, and the text settings of its checkpoint.

Files of a Hugging Face folder are copied unchanged, also into a folder of Meta's, whose code reads the tokenizer
alone. From a single file the same files are made (text_files). A LoRA adapter's own tokenizer replaces that of its
base.
"""

import shutil
import struct
from pathlib import Path
from typing import Any, NamedTuple

from llamalab.checkpoints.gguf_words import as_model
from llamalab.checkpoints.gguf_write import special_ids
from llamalab.checkpoints.text_files import ending_ids, write_tokenizer
from llamalab.errors import FormatError
from llamalab.files.inputs import read_object
from llamalab.formats.gguf_header import is_gguf, map_gguf
from llamalab.text import PieceTokenizer, TextSettings, load_tokenizer
from llamalab.text.gguf_text import SENTENCEPIECE, Vocabulary
from llamalab.text.gguf_vocabulary import model_of
from llamalab.text.hf_settings import FILES
from llamalab.text.load import MODEL, TOKENIZER_FILES, has_tokenizer, load_vocabulary
from llamalab.text.tokenizer_bin import tokenizer_bin

_COPIED = (*TOKENIZER_FILES, *(name for name in FILES if name != "config.json"))
_MORE_TEMPLATES = "additional_chat_templates"  # the files of transformers, one for each purpose
_OF_THE_MODEL = ("generation_config.json",)  # files that an adapter's folder does not replace
_NO_MODEL = "; the format has no place for its tokenizer, which is no SentencePiece model"
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


class TextSource(NamedTuple):
    """Source of the text side: `place` is a file or folder, None where there is none; `model` the checkpoint.

    A source that the user named (`is_named`) overrides all text settings of the checkpoint.
    """

    place: Path | None
    model: Path
    is_named: bool = False


def text_source(source: Path, *, tokenizer: str | None, lora: str | None) -> TextSource:
    """The named source, else the adapter's own, else that in the checkpoint or, for a single file, in its folder."""
    if tokenizer is not None:
        return TextSource(Path(tokenizer), source, is_named=True)
    if lora is not None and has_tokenizer(Path(lora)):
        return TextSource(Path(lora), source)
    if source.is_dir():
        places = [source, source.parent] if (source / "params.json").is_file() else [source]
        found = next((place for place in places if has_tokenizer(place)), None)
        if found is None or found == source:
            return TextSource(found, source)
        return TextSource(next(found / name for name in TOKENIZER_FILES if (found / name).is_file()), source)
    if is_gguf(source):
        has_pieces = "tokenizer.ggml.tokens" in map_gguf(source)[1].settings
        return TextSource(source if has_pieces else None, source)
    beside = source.parent / "tokenizer.bin"  # in the folder of a llama2.c file only this one surely belongs to it
    return TextSource(beside if beside.is_file() else None, source)


def config_ids(text: TextSource) -> dict[str, Any]:
    """The special ids for config.json: those of a Hugging Face checkpoint, else those of the tokenizer."""
    config = text.model / "config.json"
    if config.is_file() and not text.is_named:
        own = read_object(config, "config.json of the checkpoint")
        return {key: own[key] for key in _IDS if key in own}
    return {} if text.place is None else ending_ids(load_tokenizer(text.place).settings)


def place_text(text: TextSource, folder: Path) -> None:
    """Write the text side into a folder of Hugging Face's or Meta's. Raises MissingError for a missing file."""
    if text.model.is_dir() and not text.is_named:
        _copy(text.model, folder, _COPIED if text.place in (None, text.model) else _OF_THE_MODEL)
    if text.place is None or (text.place == text.model and text.model.is_dir()):
        return
    if text.place.is_dir():
        _copy(text.place, folder, _COPIED)
    else:
        write_tokenizer(load_tokenizer(text.place), folder)


def place_model(text: TextSource, folder: Path) -> str:
    """Write the tokenizer.model that Meta's code reads, from tokenizer.json if needed; gives the settings it lacks."""
    if text.place is None or (folder / MODEL).is_file():
        return ""
    model = as_model(load_vocabulary(text.place))
    if model is None:
        return _NO_MODEL
    (folder / MODEL).write_bytes(model.proto)
    return ""


def llama2c_text(place: Path, vocab_size: int) -> tuple[bytes | None, str]:
    """A tokenizer.bin, None where the vocabulary cannot be one, and the settings that the format cannot hold."""
    tokenizer = as_model(load_vocabulary(place))
    if tokenizer is None:
        return None, _NO_MODEL
    try:
        made = tokenizer_bin(tokenizer)
    except FormatError as error:
        return None, f"; the format has no place for its tokenizer: {error}"
    # run.c reads as many pieces as the embedding has rows.
    for index in range(len(tokenizer.pieces.texts), vocab_size):
        text = (tokenizer.name(index) if index < tokenizer.vocab_size else "") or f"<unused{index}>"
        made += struct.pack("<fI", -1e9, len(text.encode())) + text.encode()
    longest = max(
        struct.unpack_from("<I", made)[0], *(len(piece.text.encode()) for piece in tokenizer.settings.added), 16
    )
    return struct.pack("<I", longest) + made[4:], _losses(_beyond_llama2c(tokenizer.settings))


def gguf_losses(words: Vocabulary, size: int) -> str:
    """The text settings that a GGUF file of a model with `size` embeddings cannot hold."""
    kept = set(special_ids(words.settings).values())
    ends = sorted(words.settings.stop_ids - kept)
    lost = [f"the ids {', '.join(map(str, ends))} that end a text"] if ends else []
    lost += _lost_strings(words.settings)
    bare = [piece.text for piece in words.settings.added if piece.token_id >= size]
    return _losses([*lost, *(f"{text}, which has no embedding" for text in bare)])


def llama_cpps_spaces(words: Vocabulary, place: Path, size: int) -> str:
    """A remark where llama.cpp inserts a space at the beginning of a text and the tokenizer does not."""
    own, text = words.settings, "a"
    apart = (own.bos_id, own.eos_id, own.unknown_id)
    marks = [
        piece.text for piece in own.added if piece.special and piece.token_id not in apart and piece.token_id < size
    ]
    source = load_tokenizer(place)
    if words.model != SENTENCEPIECE or isinstance(source, PieceTokenizer) or not marks:
        return ""
    before, after = (one.encode(marks[-1] + text, special=True) for one in (source, model_of(words, "")))
    return "" if before == after else "; llama.cpp puts a space behind special pieces, which this tokenizer does not"


def _beyond_llama2c(settings: TextSettings) -> list[str]:
    lost = []
    if (settings.bos_id, settings.eos_id) != (1, 2):
        lost.append(f"BOS {settings.bos_id} and EOS {settings.eos_id}")
    more = sorted(settings.stop_ids - {settings.bos_id, settings.eos_id})
    if more:
        lost.append(f"the ids {', '.join(map(str, more))} that end a text")
    lost += _lost_strings(settings)
    if not settings.add_bos or settings.add_eos:
        lost.append("what is put around a prompt")
    own = (settings.bos_id, settings.eos_id, settings.unknown_id)
    pieces = [piece for piece in settings.added if piece.token_id not in own]
    if pieces:
        lost.append(f"{len(pieces)} added piece{'s' if len(pieces) > 1 else ''}")
    return lost + (["the chat template"] if settings.chat_template is not None else [])


def _lost_strings(settings: TextSettings) -> list[str]:
    return ["the strings that end a text"] if settings.stop_strings else []


def _losses(lost: list[str]) -> str:
    return f"; it has no place for {', '.join(lost)}" if lost else ""


def _copy(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    more = sorted((source / _MORE_TEMPLATES).glob("*.jinja")) if "chat_template.jinja" in names else []
    for file in more:
        (folder / _MORE_TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(file, folder / _MORE_TEMPLATES / file.name)
