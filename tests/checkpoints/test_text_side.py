"""Conversion keeps what a checkpoint says about text, or names what the target has no place for."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llamalab.checkpoints.convert import Wishes, convert
from llamalab.checkpoints.text_files import write_tokenizer
from llamalab.errors import FormatError
from llamalab.text import SentencePieceTokenizer, Tokenizer, load_tokenizer, tokenizer_of
from llamalab.text.load import load_vocabulary
from llamalab.text.sentencepiece_model import SentencePieceModel
from llamalab.text.tokenizer_json import JsonTokenizer
from tests.checkpoints.samples import ARCH, random_model, write_config, write_params, write_shards
from tests.checkpoints.test_fuzz import write_safetensors_sample
from tests.checkpoints.test_huggingface import hf_named
from tests.checkpoints.test_llama2c import v0
from tests.text.samples import TEXTS, byte_level_folder, sentencepiece_model, tiktoken_file, write_json

CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"
PLAIN = [text for text in TEXTS if "<" not in text]


def source_folder(folder: Path, vocab_size: int, **config: Any) -> Path:
    """A Hugging Face checkpoint whose tokenizer is yet to come."""
    arch = ARCH.replace(vocab_size=vocab_size)
    write_config(folder, arch, **config)
    write_safetensors_sample(folder / "model.safetensors", hf_named(random_model(arch), arch))
    return folder


@pytest.fixture
def chat_folder(tmp_path: Path) -> Path:
    """A fine-tune with a turn's end, a template and no BOS before prompts."""
    folder = source_folder(tmp_path / "source", 340, bos_token_id=1, eos_token_id=2)
    sentencepiece_model(folder / "tokenizer.model", user_defined_symbols=["<tool>"])
    write_json(
        folder / "tokenizer_config.json",
        tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=False,
        legacy=False, chat_template=CHAT, additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    write_json(folder / "generation_config.json", eos_token_id=[2, 331], bos_token_id=1)
    return folder


def same(one: Tokenizer, other: Tokenizer, texts: list[str]) -> None:
    """The same ids, and the same settings but for how their pieces are cut out."""
    for text in texts:
        assert one.encode(text) == other.encode(text)
    fields = ("bos_id", "eos_id", "stop_ids", "add_bos", "add_eos", "chat_template", "infill")
    assert [getattr(one.settings, name) for name in fields] == [getattr(other.settings, name) for name in fields]


@pytest.mark.parametrize("path", [["hf"], ["gguf"], ["meta"], ["gguf", "hf"], ["meta", "gguf", "meta"]])
def test_a_fine_tunes_settings_survive(tmp_path: Path, chat_folder: Path, path: list[str]) -> None:
    place = chat_folder
    for number, to in enumerate(path):
        said = convert(place, tmp_path / str(number), to)
        assert "no place" not in said
        # Said where it begins to be so: llama.cpp's own rule comes along into every format after it.
        assert ("llama.cpp puts a space behind" in said) == (to == "gguf" and number == path.index("gguf"))
        place = tmp_path / str(number)
    before, after = tokenizer_of(chat_folder), tokenizer_of(place)
    # llama.cpp puts a space before every text, transformers spares one that begins with its own.
    texts = PLAIN if "gguf" not in path else [text for text in PLAIN if not text.startswith(" ")]
    same(before, after, [*texts, "a<tool>the"])
    assert after.settings.stop_ids == {2, 331}
    assert [after.name(index) for index in (330, 331)] == ["<|im_start|>", "<|im_end|>"]
    assert after.encode("the<|im_end|>", special=True)[-1] == 331
    assert after.piece(331) == b""


def test_config_json_keeps_its_ids(tmp_path: Path) -> None:
    source = source_folder(tmp_path / "source", 38, bos_token_id=5, eos_token_id=[7, 9], pad_token_id=3)
    convert(source, tmp_path / "out", "hf")
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (made["bos_token_id"], made["eos_token_id"], made["pad_token_id"]) == (5, [7, 9], 3)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}


def test_config_json_gets_the_ids_of_a_single_file(tmp_path: Path, chat_folder: Path) -> None:
    convert(chat_folder, tmp_path / "m.gguf", "gguf")
    convert(tmp_path / "m.gguf", tmp_path / "out", "hf")
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (made["bos_token_id"], made["eos_token_id"]) == (1, [2, 331])


def test_strings_that_end_a_text_are_kept_or_named(tmp_path: Path, chat_folder: Path) -> None:
    write_json(chat_folder / "generation_config.json", eos_token_id=[2, 331], stop_strings=["###"])
    said = convert(chat_folder, tmp_path / "hf", "hf")
    assert "no place" not in said
    assert tokenizer_of(tmp_path / "hf").settings.stop_strings == ("###",)
    sentencepiece_model(chat_folder / "tokenizer.model")
    for to, name in (("gguf", "m.gguf"), ("llama2c", "m.bin")):
        assert "the strings that end a text" in convert(chat_folder, tmp_path / name, to)
    write_tokenizer(tokenizer_of(chat_folder), tmp_path / "hf")
    assert tokenizer_of(tmp_path / "hf").settings.stop_strings == ("###",)


def test_llama2c_gets_a_tokenizer_and_says_what_it_cannot_say(tmp_path: Path, chat_folder: Path) -> None:
    sentencepiece_model(chat_folder / "tokenizer.model")
    said = convert(chat_folder, tmp_path / "out" / "m.bin", "llama2c")
    assert said.endswith(
        "it has no place for the ids 331 that end a text, what is put around a prompt, 2 added pieces, the chat "
        "template"
    )
    made = load_tokenizer(tmp_path / "out" / "tokenizer.bin")
    assert made.vocab_size == 340  # as many as rows, which run.c goes by
    for text in PLAIN:
        assert made.encode(text) == load_tokenizer(chat_folder / "tokenizer.model").encode(text)
    again = convert(chat_folder, tmp_path / "out" / "other.bin", "llama2c")
    assert "its tokenizer is not written, as" in again
    assert "exists" in again


def test_llama2c_has_no_place_for_bytes(tmp_path: Path) -> None:
    count = byte_level_folder(tmp_path / "words").get_vocab_size()
    source = source_folder(tmp_path / "source", count)
    said = convert(source, tmp_path / "m.bin", "llama2c", Wishes(tokenizer=str(tmp_path / "words")))
    assert "no place for its tokenizer" in said
    assert not (tmp_path / "tokenizer.bin").exists()


def test_a_tokenizer_bin_becomes_a_model(tmp_path: Path) -> None:
    from llamalab.text import write_tokenizer_bin

    sentencepiece_model(tmp_path / "words.model")
    write_tokenizer_bin(tmp_path / "tokenizer.bin", tmp_path / "words.model")
    arch = ARCH.replace(vocab_size=330)
    (tmp_path / "m.bin").write_bytes(v0(arch, dict(random_model(arch).state_dict())))
    convert(tmp_path / "m.bin", tmp_path / "out", "hf")
    same(load_tokenizer(tmp_path / "tokenizer.bin"), load_tokenizer(tmp_path / "out"), PLAIN)


@pytest.fixture
def saved_folder(tmp_path: Path) -> Path:
    """A folder as transformers saves it: the pieces are in tokenizer.json, beside it the model they came from."""
    folder = source_folder(tmp_path / "saved", 340, bos_token_id=1, eos_token_id=2)
    sentencepiece_model(folder / "tokenizer.model")
    write_tokenizer(load_tokenizer(folder / "tokenizer.model"), folder)
    assert isinstance(load_tokenizer(folder), JsonTokenizer)
    return folder


@pytest.mark.parametrize("to", ["gguf", "meta", "llama2c"])
@pytest.mark.parametrize("has_model", [True, False])
def test_pieces_of_a_tokenizer_json_with_byte_fallback(
    tmp_path: Path, saved_folder: Path, to: str, has_model: bool
) -> None:
    before, own = load_tokenizer(saved_folder), SentencePieceTokenizer(saved_folder / "tokenizer.model")
    if not has_model:
        (saved_folder / "tokenizer.model").unlink()
    convert(saved_folder, tmp_path / "out" / "made", to)
    made = tmp_path / "out" / "made"
    place = {"gguf": made, "meta": made / "tokenizer.model", "llama2c": tmp_path / "out" / "tokenizer.bin"}[to]
    after = load_tokenizer(place)
    assert isinstance(after, SentencePieceModel)
    for text in PLAIN:
        assert after.encode(text) == before.encode(text) == own.encode(text)
    # The model alone has the scores; without it they are places among the merges.
    count = len(own.pieces.texts)
    assert after.pieces.kinds[:count] == own.pieces.kinds
    assert (after.pieces.scores[:count] == own.pieces.scores) == has_model


@pytest.mark.parametrize("options", [{"model_type": "unigram"}, {"normalization_rule_name": "nmt_nfkc"}], ids=str)
def test_a_model_that_no_other_file_can_hold(tmp_path: Path, options: dict[str, Any]) -> None:
    source = source_folder(tmp_path / "source", 340)
    sentencepiece_model(source / "tokenizer.model", hard_vocab_limit=False, **options)
    with pytest.raises(FormatError, match="BPE without normalisation to be written as another file"):
        convert(source, tmp_path / "m.gguf", "gguf")
    said = convert(source, tmp_path / "m.bin", "llama2c")
    assert "no place for its tokenizer: a SentencePiece model must be BPE" in said
    convert(source, tmp_path / "meta", "meta")
    assert (tmp_path / "meta" / "tokenizer.model").is_file()
    write_tokenizer(load_tokenizer(source / "tokenizer.model"), tmp_path)
    assert (tmp_path / "tokenizer.model").is_file()
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_model_that_is_another_is_not_taken(tmp_path: Path, saved_folder: Path) -> None:
    sentencepiece_model(saved_folder / "tokenizer.model", vocab_size=320)
    assert isinstance(load_vocabulary(saved_folder), JsonTokenizer)


@pytest.mark.reference
@pytest.mark.parametrize("kind", ["tokenizer.bin", "tiktoken", "gguf"])
def test_transformers_reads_the_ids_from_a_folder(tmp_path: Path, kind: str, shared_real: Path) -> None:
    from transformers import AutoTokenizer

    if kind == "tiktoken":
        tiktoken_file(tmp_path / "words.model", byte_level_folder(tmp_path / "bytes"))
        place = tmp_path / "words.model"
    else:
        place = shared_real / "tok512.bin"
    before = load_tokenizer(place)
    if kind == "gguf":
        convert(source_folder(tmp_path / "plain", 512), tmp_path / "m.gguf", "gguf", Wishes(tokenizer=str(place)))
        before = load_tokenizer(tmp_path / "m.gguf")
    write_tokenizer(before, tmp_path)
    write_json(tmp_path / "config.json", model_type="llama")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*PLAIN, "  two   spaces", " ", "\n\n", "▁x"]:
        assert theirs(text)["input_ids"] == before.prompt_ids(text) == load_tokenizer(tmp_path).prompt_ids(text)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (before.bos_id, before.eos_id)


@pytest.mark.parametrize("kind", ["tokenizer.json", "tiktoken"])
@pytest.mark.parametrize("path", [["gguf"], ["hf"], ["gguf", "hf", "gguf"]])
def test_vocabularies_over_bytes(tmp_path: Path, kind: str, path: list[str]) -> None:
    words = tmp_path / "words"
    made = byte_level_folder(words)
    if kind == "tiktoken":
        tiktoken_file(tmp_path / "tokenizer.model", made)
        words = tmp_path / "tokenizer.model"
    before = load_tokenizer(words)
    place = source_folder(tmp_path / "source", before.vocab_size)
    for number, to in enumerate(path):
        convert(place, tmp_path / str(number), to, Wishes(tokenizer=str(words) if number == 0 else None))
        place = tmp_path / str(number)
    same(before, tokenizer_of(place), PLAIN)
    assert tokenizer_of(place).encode("the<|eot_id|>", special=True) == before.encode("the<|eot_id|>", special=True)


def test_metas_tokenizer_lies_in_the_parent_folder(tmp_path: Path) -> None:
    arch = ARCH.replace(vocab_size=330)
    write_params(tmp_path / "7b", arch, vocab_size=330)
    write_shards(tmp_path / "7b", random_model(arch).state_dict(), 1)
    sentencepiece_model(tmp_path / "tokenizer.model")
    assert tokenizer_of(tmp_path / "7b").vocab_size == 330
    convert(tmp_path / "7b", tmp_path / "out", "hf")
    assert (tmp_path / "out" / "tokenizer.model").is_file()
    convert(tmp_path / "7b", tmp_path / "m.gguf", "gguf")
    same(load_tokenizer(tmp_path / "tokenizer.model"), tokenizer_of(tmp_path / "m.gguf"), PLAIN)


def test_an_adapters_own_tokenizer_wins(tmp_path: Path, chat_folder: Path) -> None:
    import torch

    from tests.checkpoints.test_lora import adapter

    module = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    folder = adapter(
        tmp_path / "adapter", {f"{module}A.weight": torch.ones(2, 24), f"{module}B.weight": torch.ones(24, 2)}
    )
    sentencepiece_model(folder / "tokenizer.model", vocab_size=320)
    (chat_folder / "tokenizer.json").write_text("{}")
    convert(chat_folder, tmp_path / "out", "hf", Wishes(lora=str(folder)))
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.model", "generation_config.json"}
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == (folder / "tokenizer.model").read_bytes()


def test_an_added_piece_without_an_embedding_is_named(tmp_path: Path) -> None:
    source = source_folder(tmp_path / "source", 330)
    sentencepiece_model(source / "tokenizer.model")
    write_json(source / "added_tokens.json", **{"[PAD]": 330})
    assert tokenizer_of(source).vocab_size == 331
    said = convert(source, tmp_path / "m.gguf", "gguf")
    assert said.endswith("a vocabulary; it has no place for [PAD], which has no embedding")
    assert tokenizer_of(tmp_path / "m.gguf").vocab_size == 330


def test_four_ends_are_one_too_many_for_gguf(tmp_path: Path, chat_folder: Path) -> None:
    write_json(chat_folder / "generation_config.json", eos_token_id=[2, 331, 300, 301])
    assert "no place for the ids 331 that end a text" in convert(chat_folder, tmp_path / "m.gguf", "gguf")


@pytest.mark.reference
@pytest.mark.parametrize("path", [["hf"], ["gguf", "hf"]])
def test_transformers_reads_what_is_written(tmp_path: Path, chat_folder: Path, path: list[str]) -> None:
    from transformers import AutoTokenizer

    sentencepiece_model(chat_folder / "tokenizer.model")
    place = chat_folder
    for number, to in enumerate(path):
        convert(place, tmp_path / str(number), to)
        place = tmp_path / str(number)
    theirs, ours = AutoTokenizer.from_pretrained(place), load_tokenizer(place)
    for text in TEXTS:
        if not text.startswith(" "):
            assert theirs(text)["input_ids"] == ours.prompt_ids(text)
    assert theirs.chat_template == CHAT
    shutil.rmtree(place)
