"""What the files beside a model say: each source, which one wins, and what transformers makes of the same files."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from llamalab.errors import FormatError
from llamalab.text import SentencePieceTokenizer, decode, load_tokenizer
from llamalab.text.hf_settings import read_side_files, settings_from
from llamalab.text.settings import TextSettings
from tests.checkpoints.test_fuzz import fuzz
from tests.text.samples import TEXTS, sentencepiece_model, write_json

CONFIG = {"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2}
TOKENIZER = {
    "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "legacy": False,
    "eos_token": {"__type": "AddedToken", "content": "<|im_end|>"},
    "unk_token": "<unk>", "add_bos_token": True, "additional_special_tokens": ["<|im_start|>"],
    "added_tokens_decoder": {"331": {"content": "<|im_end|>", "special": True, "lstrip": False, "rstrip": False}},
    "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    sentencepiece_model(path)
    return path.read_bytes()


def settings_with(folder: Path, model: bytes, **files: Any) -> TextSettings:
    """The settings of a folder with these files, whose names have two underscores for a dot."""
    (folder / "tokenizer.model").write_bytes(model)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return load_tokenizer(folder).settings


def test_what_ends_a_text(tmp_path: Path, model: bytes) -> None:
    assert settings_with(tmp_path, model).stop_ids == {2}
    assert settings_with(tmp_path, model, config__json=CONFIG | {"eos_token_id": [7, 9]}).stop_ids == {2, 7, 9}
    # generation_config alone where it names any.
    assert settings_with(tmp_path, model, generation_config__json={"eos_token_id": 5}).stop_ids == {2, 5}
    assert settings_with(tmp_path, model, generation_config__json={"eos_token_id": None}).stop_ids == {2, 7, 9}
    made = settings_with(tmp_path, model, tokenizer_config__json=TOKENIZER)
    assert (made.eos_id, made.stop_ids) == (331, {7, 9, 331})


def test_strings_that_end_a_text(tmp_path: Path, model: bytes) -> None:
    assert settings_with(tmp_path, model).stop_strings == ()
    made = settings_with(tmp_path, model, generation_config__json={"stop_strings": ["User:", "###", "User:"]})
    assert made.stop_strings == ("User:", "###")
    made = settings_with(tmp_path, model, generation_config__json={"stop_strings": "User:", "eos_token_id": 5})
    assert (made.stop_strings, made.stop_ids) == (("User:",), {2, 5})
    for unsound in ([""], [5], {"a": "b"}, 7, ["a"] * 1001, ["a" * 1001]):
        with pytest.raises(FormatError, match="stop_strings must be"):
            settings_with(tmp_path, model, generation_config__json={"stop_strings": unsound})


def test_pieces_with_an_id_and_without(tmp_path: Path, model: bytes) -> None:
    made = settings_with(
        tmp_path,
        model,
        config__json=CONFIG,
        tokenizer_config__json=TOKENIZER,
        special_tokens_map__json={"pad_token": "<pad>", "eos_token": "</s>"},
        added_tokens__json={"<tool>": 330},
    )
    assert {(piece.text, piece.token_id, piece.special) for piece in made.added} == {
        ("<s>", 1, True), ("<unk>", 0, True), ("<tool>", 330, False), ("<|im_end|>", 331, True),
        ("<pad>", 332, True), ("<|im_start|>", 333, True),
    }  # fmt: skip
    assert (made.pad_id, made.unknown_id, made.eos_id) == (332, 0, 331)


def test_the_rule_for_bos_and_eos(tmp_path: Path, model: bytes) -> None:
    assert settings_with(tmp_path, model, config__json=CONFIG).around([5]) == [1, 5]
    changed = {"add_bos_token": False, "add_eos_token": True}
    assert settings_with(tmp_path, model, tokenizer_config__json=changed).around([5]) == [5, 2]
    assert settings_with(tmp_path, model, tokenizer_config__json={"bos_token": None}).around([5]) == [5]


def test_the_chat_template(tmp_path: Path, model: bytes) -> None:
    assert settings_with(tmp_path, model, tokenizer_config__json=TOKENIZER).chat_template == "d"
    by_name = {"chat_template": {"tool_use": "t", "default": "n"}}
    assert settings_with(tmp_path, model, tokenizer_config__json=by_name).chat_template == "n"
    assert settings_with(tmp_path, model, chat_template__json={"chat_template": "j"}).chat_template == "j"
    assert settings_with(tmp_path, model, chat_template__jinja="own").chat_template == "own"


def test_added_pieces_are_shown_and_special_ones_are_not(tmp_path: Path, model: bytes) -> None:
    settings_with(
        tmp_path, model, config__json=CONFIG, added_tokens__json={"<tool>": 330}, tokenizer_config__json=TOKENIZER
    )
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 333
    assert [tokenizer.piece(index) for index in (330, 331)] == [b"<tool>", b""]
    assert tokenizer.label(331) == "<|im_end|>"


@pytest.mark.parametrize(
    "files",
    [
        {"config__json": {"eos_token_id": "2"}},
        {"config__json": {"eos_token_id": [2, -1]}},
        {"generation_config__json": {"eos_token_id": 2**40}},
        {"generation_config__json": {"eos_token_id": True}},
        {"added_tokens__json": {"a": "b"}},
        {"added_tokens__json": {"a": 2**30}},
        {"tokenizer_config__json": {"added_tokens_decoder": {"x": {"content": "a"}}}},
        {"tokenizer_config__json": {"added_tokens_decoder": [1]}},
        {"tokenizer_config__json": {"bos_token": 3}},
        {"tokenizer_config__json": {"add_bos_token": "yes"}},
        {"tokenizer_config__json": {"chat_template": 5}},
        {"tokenizer_config__json": "["},
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, model: bytes, files: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        settings_with(tmp_path, model, **files)


# transformers counts on from the last piece, whatever id is declared.
ADDED = {"2": {"content": "</s>", "special": True}, "330": TOKENIZER["added_tokens_decoder"]["331"]}  # type: ignore[index]
TOOL = {"content": "<tool>", "special": False, "lstrip": True, "rstrip": True}
PLAIN = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
FOLDERS: dict[str, dict[str, Any]] = {
    "pieces": {"tokenizer_config__json": TOKENIZER | {"added_tokens_decoder": ADDED}},
    "plain": {"tokenizer_config__json": PLAIN},
    "no BOS": {"tokenizer_config__json": PLAIN | {"add_bos_token": False, "add_eos_token": True}},
    "BOS is none": {"tokenizer_config__json": PLAIN | {"bos_token": None}},
    "exchanged": {"tokenizer_config__json": PLAIN | {"bos_token": "</s>", "eos_token": "<s>", "pad_token": "<unk>"}},
    "legacy": {"tokenizer_config__json": PLAIN | {"legacy": True}},
    "legacy is null": {"tokenizer_config__json": PLAIN | {"legacy": None}},
    "no space": {"tokenizer_config__json": PLAIN | {"add_prefix_space": False}},
    "split": {"tokenizer_config__json": PLAIN | {"split_special_tokens": True}},
    "stripped": {"tokenizer_config__json": PLAIN | {"added_tokens_decoder": {"330": TOOL}}},
    "single word": {"tokenizer_config__json": PLAIN | {
        "added_tokens_decoder": {"330": {"content": "<tool>", "special": False, "single_word": True}}
    }},
    "the map is right": {
        "tokenizer_config__json": PLAIN | {"eos_token": "</s>"},
        "special_tokens_map__json": {"eos_token": "<|im_end|>"},
    },
    "the map is old": {
        "tokenizer_config__json": PLAIN | {"eos_token": "</s>", "added_tokens_decoder": {"330": TOOL}},
        "special_tokens_map__json": {"eos_token": "<|im_end|>"},
    },
    "old pieces": {
        "tokenizer_config__json": PLAIN | {"eos_token": "<|im_end|>"},
        "added_tokens__json": {"<tool>": 331, "<|im_end|>": 330},
    },
}  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("name", FOLDERS)
def test_the_ids_and_the_text_are_transformers(tmp_path: Path, model: bytes, name: str) -> None:
    from transformers import AutoTokenizer

    settings_with(tmp_path, model, config__json=CONFIG, **FOLDERS[name])
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.vocab_size == len(theirs)
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    for text in [*TEXTS, "  a", "▁ a", "<s> the<unk>cat </s>", "a <tool> b x<tool>y", " ", "<tool>"]:
        assert ours.prompt_ids(text) == theirs(text)["input_ids"]
    draw = random.Random(name)
    for _ in range(300):
        ids = [draw.randrange(draw.choice([ours.vocab_size, 260])) for _ in range(draw.randrange(1, 9))]
        assert decode(ours, ids) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.reference
def test_bos_comes_first_where_nothing_says_so(tmp_path: Path, model: bytes) -> None:
    """transformers 5.23 documents add_bos_token as true by default and puts none; Llama was trained with it."""
    settings_with(tmp_path, model, config__json=CONFIG, tokenizer_config__json={"tokenizer_class": "LlamaTokenizer"})
    assert load_tokenizer(tmp_path).prompt_ids("the")[0] == 1


def test_damaged_files(tmp_path: Path, model: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model)
    files = {"config.json": CONFIG, "generation_config.json": {"eos_token_id": [2, 5], "bos_token_id": 1},
             "tokenizer_config.json": TOKENIZER, "special_tokens_map.json": {"pad_token": "<pad>"},
             "added_tokens.json": {"<tool>": 330}}  # fmt: skip
    for name, content in files.items():
        write_json(tmp_path / name, **content)

    bare, ids = SentencePieceTokenizer(tmp_path / "tokenizer.model"), {"<s>": 1, "</s>": 2, "<unk>": 0}

    def use() -> None:
        made = settings_from(read_side_files(tmp_path), bare.settings, id_of=ids.get, vocab_size=bare.vocab_size)
        tokenizer = bare.with_settings(made)
        encoded = tokenizer.prompt_ids("the <tool><|im_end|> cat")
        decode(tokenizer, [index for index in encoded if index < tokenizer.vocab_size])
        assert all(0 <= index < tokenizer.vocab_size for index in tokenizer.encode("the <tool> cat"))

    fuzz([tmp_path / name for name in files], use, seed=31)
