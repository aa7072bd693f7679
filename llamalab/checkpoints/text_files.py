"""A tokenizer and its settings as the files of a Hugging Face folder, as transformers reads them.

tokenizer.json is written for all but Unigram and normalising models: from tokenizer.model alone transformers 5.23
merges pieces in order of their ids, although Llama's scores of several spaces are the lowest, and gives other ids
than the model was trained with. The original file is written too, for llama.cpp and Meta's code.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from llamalab.checkpoints.gguf_words import merges_of
from llamalab.errors import InputError
from llamalab.text import TextSettings, Tokenizer
from llamalab.text.added import added_token
from llamalab.text.byte_level import written
from llamalab.text.descriptions import of_model, over_bytes, with_frame
from llamalab.text.load import MODEL
from llamalab.text.sentencepiece_model import SentencePieceModel
from llamalab.text.tiktoken_file import LLAMA_3_PATTERN, TiktokenTokenizer
from llamalab.text.tokenizer_json import JsonTokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """A tokenizer and its settings as the files that transformers reads."""
    if isinstance(tokenizer, SentencePieceModel):
        (folder / MODEL).write_bytes(tokenizer.proto)
    elif isinstance(tokenizer, TiktokenTokenizer):
        shutil.copyfile(tokenizer.source, folder / MODEL)
    if not isinstance(tokenizer, SentencePieceModel) or tokenizer.is_plain:
        _write_json(folder / "tokenizer.json", with_frame(_description_of(tokenizer), tokenizer))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer))
    _write_json(folder / "generation_config.json", _generation_config(tokenizer.settings))


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    settings = tokenizer.settings
    names = {
        "bos_token": settings.bos_id,
        "eos_token": settings.eos_id,
        "unk_token": settings.unknown_id,
        "pad_token": settings.pad_id,
    }
    added = {str(piece.token_id): added_token(piece) for piece in settings.added}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # a class that uses tokenizer.json unchanged
        "add_bos_token": settings.add_bos,
        "add_eos_token": settings.add_eos,
        "added_tokens_decoder": {
            index: {key: value for key, value in token.items() if key != "id"} for index, token in added.items()
        },
        "clean_up_tokenization_spaces": False,
        "legacy": False,
    }
    for key, token_id in names.items():
        config[key] = None if token_id is None else tokenizer.name(token_id)
    if isinstance(tokenizer, SentencePieceModel):
        config["add_prefix_space"] = tokenizer.space_first
    if settings.chat_template is not None:
        config["chat_template"] = settings.chat_template
    return config


def ending_ids(settings: TextSettings) -> dict[str, Any]:
    """The ids for config.json and generation_config.json: one EOS, or the list of all that end a text."""
    first = [settings.eos_id] if settings.eos_id is not None else []
    ends = first + sorted(settings.stop_ids - set(first))
    ids = {
        "bos_token_id": settings.bos_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": settings.pad_id,
    }
    return {key: value for key, value in ids.items() if value is not None}


def _generation_config(settings: TextSettings) -> dict[str, Any]:
    stops = {"stop_strings": list(settings.stop_strings)} if settings.stop_strings else {}
    return ending_ids(settings) | stops


def _description_of(tokenizer: Tokenizer) -> dict[str, Any]:
    if isinstance(tokenizer, SentencePieceModel):
        return of_model(tokenizer)
    if isinstance(tokenizer, TiktokenTokenizer):
        pieces = tokenizer.pieces
        return over_bytes(list(map(written, pieces)), merges_of(pieces), tokenizer.settings.added, LLAMA_3_PATTERN)
    if isinstance(tokenizer, JsonTokenizer):
        return tokenizer.description
    raise InputError(f"a tokenizer must be of a kind that a folder can hold; got {type(tokenizer).__name__}")


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
