import random
import struct
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamalab.errors import FormatError, InputError, LlamaLabError, MissingError
from llamalab.text import (
    Llama2cTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    decode,
    decode_stream,
    load_tokenizer,
    write_tokenizer_bin,
)
from llamalab.text.train import train_tokenizer

pytestmark = pytest.mark.shared

# karpathy/llama2.c test.c, taken there from Meta's example_text_completion.py.
VECTORS = {
    "": [],
    "I believe the meaning of life is": [306, 4658, 278, 6593, 310, 2834, 338],
    "Simply put, the theory of relativity states that ": [
        3439, 17632, 1925, 29892, 278, 6368, 310, 14215, 537, 5922, 393, 29871,
    ],
    "A brief message congratulating the team on the launch:\n\n        Hi everyone,\n\n        I just ": [
        319, 11473, 2643, 378, 629, 271, 18099, 278, 3815, 373, 278, 6826, 29901, 13, 13, 4706, 6324, 14332, 29892,
        13, 13, 4706, 306, 925, 29871,
    ],
    "Translate English to French:\n\n        sea otter => loutre de mer\n        peppermint => menthe poivrée\n"
    "        plush girafe => girafe peluche\n        cheese =>": [
        4103, 9632, 4223, 304, 5176, 29901, 13, 13, 4706, 7205, 4932, 357, 1149, 301, 449, 276, 316, 2778, 13, 4706,
        1236, 407, 837, 524, 1149, 6042, 354, 772, 440, 29878, 1318, 13, 4706, 715, 1878, 330, 3055, 1725, 1149, 330,
        3055, 1725, 4639, 28754, 13, 4706, 923, 968, 1149,
    ],
    "[INST] what is the recipe of mayonnaise? [/INST]": [
        518, 25580, 29962, 825, 338, 278, 9522, 412, 310, 1122, 11586, 895, 29973, 518, 29914, 25580, 29962,
    ],
}  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(max_codepoint=0x7F), max_size=60),  # control bytes among them
    st.text(st.sampled_from(" ▁\t\n\0"), max_size=12),
    st.text(st.sampled_from("  ▁aehtnd.<>0x41sé日本語😀👩‍👩‍👧\u0301"), max_size=60),
)


@pytest.fixture(scope="module")
def reference(shared_real: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(shared_real / "tokenizer.model"))


@pytest.fixture(scope="module")
def bin_path(shared_real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.bin"
    write_tokenizer_bin(path, shared_real / "tokenizer.model")
    return path


@pytest.fixture(scope="module")
def both(shared_real: Path, bin_path: Path) -> tuple[Tokenizer, Tokenizer]:
    return load_tokenizer(shared_real / "tokenizer.model"), load_tokenizer(bin_path)


def test_files_are_told_apart_by_content(both: tuple[Tokenizer, Tokenizer]) -> None:
    assert [type(tokenizer) for tokenizer in both] == [SentencePieceTokenizer, Llama2cTokenizer]
    assert [(t.vocab_size, t.bos_id, t.eos_id) for t in both] == [(32_000, 1, 2)] * 2


@pytest.mark.parametrize("text", VECTORS)
def test_published_vectors(both: tuple[Tokenizer, Tokenizer], text: str) -> None:
    for tokenizer in both:
        assert tokenizer.encode(text) == VECTORS[text]
        assert tokenizer.encode(text, bos=True) == [1, *VECTORS[text]]


@given(text=TEXTS)
@example(text="")
@example(text=" ")
@example(text="▁")
@example(text="  two spaces  inside  ")
@example(text="<0x41></s><s><unk>")
@example(text="a\0b\x7f\x80\ufeff\ufffe")
@example(text="한국어 中文 日本語 👨‍👩‍👧‍👦 ﷽ 𝔘")
@settings(max_examples=400, deadline=None)
def test_both_kinds_encode_as_sentencepiece(both: tuple[Tokenizer, Tokenizer], reference: Any, text: str) -> None:
    expected = reference.encode(text)
    for tokenizer in both:
        ids = tokenizer.encode(text)
        assert ids == expected
        assert decode(tokenizer, ids) == reference.decode(expected) == text.replace("▁", " ")


def test_every_piece_is_the_same_in_both_kinds(both: tuple[Tokenizer, Tokenizer], reference: Any) -> None:
    model, binary = both
    assert [model.piece(i) for i in range(32_000)] == [binary.piece(i) for i in range(32_000)]
    # In the middle of a text, where no space is taken away; bytes above 127 make no text alone.
    alone = [i for i in range(32_000) if not 3 + 128 <= i < 3 + 256]
    assert [decode(model, [306, i]) for i in alone] == [reference.decode([306, i]) for i in alone]


def test_a_long_text_encodes_as_sentencepiece(both: tuple[Tokenizer, Tokenizer], reference: Any) -> None:
    draw = random.Random(5)
    words = ["Once", "upon", "a", "time", "naïve", "  ", "日本", "😀", "\n", "xyzzy", "aaaaaaa", "1234567"]
    text = " ".join(draw.choices(words, k=12_000))[:50_000]
    assert len(text) == 50_000
    assert both[1].encode(text) == reference.encode(text)
    same = "a" * 50_000  # one run of equal pairs, where a wrong order of merges shows
    assert both[1].encode(same) == reference.encode(same)


def test_conversion_is_the_published_layout(bin_path: Path, reference: Any) -> None:
    data = bin_path.read_bytes()
    assert len(data) == 433_869  # as llama2.c's exporter writes it
    assert struct.unpack_from("<IfI5s", data) == (27, 0.0, 5, b"<unk>")
    assert struct.unpack_from("<fI", data, 17) == (0.0, 5)


def test_tok512_round_trip(shared_real: Path) -> None:
    tokenizer = load_tokenizer(shared_real / "tok512.bin")
    assert tokenizer.vocab_size == 512
    assert tokenizer.encode("Once upon a time", bos=True) == [1, 403, 407, 261, 378]
    text = " Lily's 2 cats — naïve 😀\n"
    assert decode(tokenizer, tokenizer.encode(text, bos=True)) == text


def test_stream_holds_a_character_back_until_it_is_whole(both: tuple[Tokenizer, Tokenizer]) -> None:
    for tokenizer in both:
        ids = tokenizer.encode("a😀b", bos=True)
        assert [tokenizer.piece(i) for i in ids] == [b"", b" a", b"\xf0", b"\x9f", b"\x98", b"\x80", b"b"]
        assert list(decode_stream(tokenizer, ids)) == ["a", "😀", "b"]
        # Cut inside the character: what is left cannot become text any more.
        # As sentencepiece has it, each of the two bytes gives one.
        assert list(decode_stream(tokenizer, ids[:4])) == ["a", "\N{REPLACEMENT CHARACTER}" * 2]


def test_only_the_first_space_is_left_out(both: tuple[Tokenizer, Tokenizer]) -> None:
    for tokenizer in both:
        assert decode(tokenizer, [1, *tokenizer.encode("  two")]) == "  two"
        assert decode(tokenizer, [306, 4658]) == "I believe"
        assert decode(tokenizer, []) == ""


@pytest.mark.parametrize("token_id", [-1, 32_000])
def test_ids_outside_the_vocabulary_are_refused(both: tuple[Tokenizer, Tokenizer], token_id: int) -> None:
    for tokenizer in both:
        with pytest.raises(InputError, match="from 0 to 31999; got"):
            tokenizer.piece(token_id)


def test_lone_surrogates_are_refused(both: tuple[Tokenizer, Tokenizer]) -> None:
    for tokenizer in both:
        with pytest.raises(InputError, match="character 2 is not"):
            tokenizer.encode("ab\udc80")


FOREIGN = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "text": b"Once upon a time, there was a little girl named Lily.",
    "one byte": b"\x07",
    "zeros": bytes(4096),
    "protobuf that is none": b"\n\x0e\n\x05<unk>\x15junk" * 9,
    "huge length": struct.pack("<IfI", 7, 0.0, 2**32 - 1) + b"abc",
    "length above the longest": struct.pack("<IfI", 2, 0.0, 3) + b"abc",
    "no piece": struct.pack("<I", 7),
    "nan score": struct.pack("<IfI", 7, float("nan"), 3) + b"abc",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"foreign\.bin"):
        load_tokenizer(path)


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        load_tokenizer(tmp_path / "none.bin")
    with pytest.raises(MissingError, match=r"tokenizer\.model or tokenizer\.bin; .* has none"):
        load_tokenizer(tmp_path)
    (tmp_path / "empty.bin").touch()
    with pytest.raises(FormatError, match="with content"):
        load_tokenizer(tmp_path / "empty.bin")


def test_cut_short_anywhere_is_refused(shared_real: Path, tmp_path: Path) -> None:
    data = (shared_real / "tok512.bin").read_bytes()
    path = tmp_path / "cut.bin"
    for size in (3, 4, 11, 12, 700, 3_000):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError):
            load_tokenizer(path)


@pytest.mark.parametrize("kind", ["tokenizer.bin", "tokenizer.model"])
def test_mutated_files_load_or_are_refused(shared_real: Path, tmp_path: Path, kind: str) -> None:
    source, path = shared_real / "tok512.bin", tmp_path / "mutated"
    if kind == "tokenizer.model":  # a small one, so that mutations meet more than pieces
        source, text = tmp_path / "small.model", tmp_path / "text.txt"
        text.write_text("the cat sat on the mat 12 and the dog\n" * 20, encoding="utf-8")
        train_tokenizer(text, source, vocab_size=290)
    data, draw, loaded = source.read_bytes(), random.Random(17), 0
    for _ in range(2000):
        mutated = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        path.write_bytes(mutated[: draw.choice([len(mutated), draw.randrange(len(mutated))])])
        try:
            tokenizer = load_tokenizer(path)
        except LlamaLabError:
            continue
        loaded += 1
        decode(tokenizer, tokenizer.encode("Once upon a time <|é 😀"))
    assert 0 < loaded < 2000
