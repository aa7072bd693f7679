from pathlib import Path

import pytest

from llamalab.errors import InputError, MissingError
from llamalab.text import SentencePieceTokenizer, decode, load_tokenizer
from llamalab.text.train import train_tokenizer

TEXT = "Once upon a time there was a cat.\n\nThe cat had 1234  hats, and the hats had é cats.\n" * 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_what_is_trained_has_llamas_traits(source: Path, tmp_path: Path) -> None:
    train_tokenizer(source, tmp_path / "t.model", vocab_size=330)
    tokenizer = load_tokenizer(tmp_path / "t.model")
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (330, 1, 2)
    model = tokenizer.model
    assert [model.id_to_piece(i) for i in range(3, 259)] == [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = [model.id_to_piece(i) for i in range(259, 330)]
    assert "▁cat" in pieces
    assert not [piece for piece in pieces if len(piece) > 1 and any(map(str.isdigit, piece))]  # digits stand alone
    for text in (" The  cat", "naïve 😀\n\t", "1234 12", "", "e\u0301 ﬁ"):  # nothing is normalised
        assert decode(tokenizer, tokenizer.encode(text)) == text
    assert len(tokenizer.encode("😀")) == 1 + 4


def test_the_same_text_gives_the_same_file(source: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(source, tmp_path / name, vocab_size=320)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_long_lines_are_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("zebra " * 5000, encoding="utf-8")
    train_tokenizer(tmp_path / "long.txt", tmp_path / "t.model", vocab_size=270)
    tokenizer = load_tokenizer(tmp_path / "t.model")
    assert len(tokenizer.encode("zebra")) == 1


@pytest.mark.parametrize(
    ("text", "vocab_size", "message"),
    [
        (TEXT.encode(), 259, "vocab_size must be at least 260"),
        (TEXT.encode(), 262, "sentencepiece says: .*262 vs"),
        (TEXT.encode(), 30_000, "sentencepiece says: .*30000"),
        (b"\n\n", 300, "at least one line that is not empty"),
        (b"caf\xe9", 300, "must be UTF-8; .*at byte 3"),
    ],
)
def test_what_cannot_be_trained_leaves_the_target_alone(
    tmp_path: Path, text: bytes, vocab_size: int, message: str
) -> None:
    (tmp_path / "text.txt").write_bytes(text)
    (tmp_path / "t.model").write_bytes(b"old")
    with pytest.raises(InputError, match=message):
        train_tokenizer(tmp_path / "text.txt", tmp_path / "t.model", vocab_size=vocab_size)
    assert (tmp_path / "t.model").read_bytes() == b"old"


def test_no_text(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no file .*none\.txt"):
        train_tokenizer(tmp_path / "none.txt", tmp_path / "t.model")
