from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.gguf_write import words_of, write_gguf
from llamalab.errors import FormatError, MissingError
from llamalab.model import build
from llamalab.text import PieceTokenizer, SentencePieceTokenizer, decode, load_tokenizer, tokenizer_of
from tests.checkpoints.samples import ARCH
from tests.checkpoints.test_fuzz import fuzz

pytestmark = pytest.mark.shared


def write(path: Path, source: sentencepiece.SentencePieceProcessor | None, **changes: Any) -> Path:
    """A GGUF file with no tensor and the vocabulary of a sentencepiece model."""
    writer = gguf.GGUFWriter(path, "llama")
    if source is not None:
        ids = range(source.vocab_size())
        kinds = [
            2 if source.is_unknown(i) else 3 if source.is_control(i) else 6 if source.is_byte(i) else 1 for i in ids
        ]
        words: dict[str, Any] = {
            "model": "llama",
            "list": [source.id_to_piece(i).encode() for i in ids],
            "scores": [source.get_score(i) for i in ids],
            "types": kinds,
            "bos": 1,
        } | changes
        writer.add_tokenizer_model(words["model"])
        writer.add_token_list(words["list"])
        writer.add_token_scores(words["scores"])
        writer.add_token_types(words["types"])
        if words["bos"] is not None:
            writer.add_bos_token_id(words["bos"])
        writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def reference(shared_real: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(shared_real / "tokenizer.model"))


@pytest.fixture(scope="module")
def path(reference: sentencepiece.SentencePieceProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "vocabulary.gguf", reference)


def test_its_own_vocabulary_is_the_tokenizer(path: Path, reference: sentencepiece.SentencePieceProcessor) -> None:
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, PieceTokenizer)
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (32_000, 1, 2)
    assert tokenizer_of(path).encode("Hi") == tokenizer.encode("Hi")

    @given(text=st.text(max_size=60) | st.text(st.sampled_from("  ▁aehtnd.<>0x41sé日本語😀"), max_size=60))
    @settings(max_examples=150, deadline=None)
    def check(text: str) -> None:
        expected = reference.encode(text)
        assert tokenizer.encode(text) == expected
        assert decode(tokenizer, expected) == reference.decode(expected)

    check()


def test_a_vocabulary_without_a_space_before_texts(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat and the dog sat on the cat\n" * 50, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "own"), model_type="bpe", vocab_size=290, byte_fallback=True,
        add_dummy_prefix=False, remove_extra_whitespaces=False, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "own.model"))
    words, model = words_of(tmp_path / "own.model"), build(ARCH.replace(vocab_size=290))
    write_gguf(tmp_path / "own.gguf", weights_of(model), dtype=None, quantised=None, words=words)
    tokenizers = [load_tokenizer(tmp_path / name) for name in ("own.model", "own.gguf")]
    assert not any(tokenizer.space_first for tokenizer in tokenizers)

    @given(text=st.text(max_size=40) | st.text(st.sampled_from("  ▁thecasond😀"), max_size=40))
    @settings(max_examples=100, deadline=None)
    def check(text: str) -> None:
        expected = reference.encode(text)
        for tokenizer in tokenizers:
            assert tokenizer.encode(text) == expected
            assert decode(tokenizer, expected) == text.replace("▁", " ")

    check()


def test_a_vocabulary_that_is_none_is_refused(shared_real: Path, tmp_path: Path) -> None:
    small = sentencepiece.SentencePieceProcessor(model_file=str(shared_real / "tokenizer.model"))
    count = small.vocab_size()
    bad: list[tuple[dict[str, Any], str]] = [
        ({"model": "bert"}, "of kind 'llama'"),
        ({"scores": [float("nan")] * count}, "must be finite"),
        ({"list": [b"\xff"] * count}, "must be UTF-8"),
        ({"types": [6] * count}, "a byte piece must be"),
    ]
    for changes, message in bad:
        with pytest.raises(FormatError, match=message):
            load_tokenizer(write(tmp_path / "bad.gguf", small, **changes))
    with pytest.raises(FormatError, match=r"tokenizer\.ggml\.tokens"):
        load_tokenizer(write(tmp_path / "none.gguf", None))


def test_the_tokenizer_in_or_beside_a_checkpoint(shared_real: Path, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"any")
    with pytest.raises(MissingError, match=r"has none, only model\.bin; give the path of one"):
        tokenizer_of(tmp_path / "model.bin")
    (tmp_path / "tokenizer.model").symlink_to(shared_real / "tokenizer.model")
    assert isinstance(tokenizer_of(tmp_path / "model.bin"), SentencePieceTokenizer)
    assert isinstance(tokenizer_of(tmp_path), SentencePieceTokenizer)
    assert isinstance(load_tokenizer(tmp_path), SentencePieceTokenizer)


def test_damaged_vocabularies(tmp_path: Path) -> None:
    """Every key that a vocabulary may have, damaged; what loads must encode and decode."""
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    pieces = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "<|im_end|>", "<tool>"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(index) for index in range(len(pieces))])
    writer.add_token_types([2, 3, 3, 1, 1, 1, 1, 1, 3, 4])
    for add, value in (
        (writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2), (writer.add_eot_token_id, 8),
        (writer.add_unk_token_id, 0), (writer.add_add_bos_token, True), (writer.add_add_eos_token, False),
        (writer.add_chat_template, "{{ messages }}"),
    ):  # fmt: skip
        add(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokenizer = load_tokenizer(path)
    assert tokenizer.settings.stop_ids == {2, 8}
    assert tokenizer.prompt_ids("ab<|im_end|>") == [1, 6, 5, 8]

    def use() -> None:
        found = load_tokenizer(path)
        decode(found, [*found.prompt_ids("a ab<|im_end|><tool> é"), found.vocab_size - 1])

    fuzz([path], use, seed=41)


def test_damaged_vocabularies_over_bytes(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(["a", "b", "ab", "<|eot_id|>"])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokenizer = load_tokenizer(path)
    assert tokenizer.prompt_ids("aab<|eot_id|>") == [3, 0, 2, 3]
    assert tokenizer.settings.stop_ids == {3}
    fuzz([path], lambda: decode(load_tokenizer(path), load_tokenizer(path).prompt_ids("ab<|eot_id|>")), seed=42)


KEYS: list[tuple[list[tuple[str, Any]], dict[str, Any]]] = [
    ([], {"bos_id": 1, "eos_id": 2, "stop_ids": {2}, "add_bos": True, "add_eos": False, "unknown_id": 0}),
    ([("add_bos_token_id", 5), ("add_eos_token_id", 6)], {"bos_id": 5, "stop_ids": {6}}),
    ([("add_eot_token_id", 7), ("add_eom_token_id", 8)], {"stop_ids": {2, 7, 8}}),
    ([("add_add_bos_token", False), ("add_add_eos_token", True)], {"add_bos": False, "add_eos": True}),
    ([("add_chat_template", "{{ x }}")], {"chat_template": "{{ x }}"}),
]


@pytest.mark.parametrize(("keys", "expected"), KEYS)
def test_every_key_is_used(tmp_path: Path, keys: list[tuple[str, Any]], expected: dict[str, Any]) -> None:
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *"▁abcdefgh"])
    writer.add_token_types([2, 3, 3, *[1] * 9])
    for name, value in keys:
        getattr(writer, name)(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    settings = load_tokenizer(tmp_path / "v.gguf").settings
    assert {name: getattr(settings, name) for name in expected} == expected
