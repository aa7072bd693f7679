"""Code Llama's infilling: the ids by the rule of Meta's code, in both orders, through every kind of tokenizer file."""

from pathlib import Path

import pytest
import sentencepiece

from llamalab.errors import InputError
from llamalab.text import decode, load_tokenizer
from llamalab.text.infill import infill_ids
from llamalab.text.model_proto import Pieces, read_pieces, write_proto
from llamalab.text.stream import TextStream
from llamalab.text.tokenizer import Kind
from llamalab.text.tokenizer_bin import tokenizer_bin
from tests.text.samples import sentencepiece_model, write_json

MARKS = ["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"]
PAIRS = [("the cat", " sat on\n  the mat"), ("", ""), ("def f(x):\n    ", "return x"), (" a", "☺ b")]


@pytest.fixture
def model(tmp_path: Path) -> sentencepiece.SentencePieceProcessor:
    """A model with Code Llama's pieces at its end, and ☺, by which Meta's code keeps the space off a suffix."""
    path = tmp_path / "tokenizer.model"
    sentencepiece_model(path)
    texts, scores, kinds = read_pieces(path.read_bytes())
    more = [*MARKS, "☺"]
    pieces = Pieces(
        texts + more, scores + [-1e3] * len(more), kinds + [Kind.CONTROL] * len(MARKS) + [Kind.USER_DEFINED]
    )
    path.write_bytes(write_proto(pieces, bos_id=1, eos_id=2, space_first=True))
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


@pytest.mark.parametrize("kind", ["tokenizer.model", "folder", "tokenizer.bin", "tokenizer.json"])
def test_the_ids_are_metas(tmp_path: Path, model: sentencepiece.SentencePieceProcessor, kind: str) -> None:
    path = tmp_path / "tokenizer.model"
    if kind == "folder":
        path = tmp_path
        write_json(path / "config.json", model_type="llama", eos_token_id=2)
    elif kind == "tokenizer.json":
        transformers = pytest.importorskip("transformers")
        transformers.LlamaTokenizer.from_pretrained(tmp_path, additional_special_tokens=MARKS).save_pretrained(tmp_path)
        path = tmp_path / "tokenizer.json"
    elif kind == "tokenizer.bin":
        path = tmp_path / "tokenizer.bin"
        path.write_bytes(tokenizer_bin(load_tokenizer(tmp_path / "tokenizer.model")))  # type: ignore[arg-type]
    tokenizer = load_tokenizer(path)
    pre, mid, suf = (model.piece_to_id(mark) for mark in MARKS[:3])
    for prefix, suffix in PAIRS:
        if kind == "tokenizer.json" and prefix.startswith(" "):
            continue  # there the library puts no second space
        after = model.encode("☺" + suffix)[2:]
        first = [1, pre, *model.encode(prefix), suf, *after, mid]
        assert infill_ids(tokenizer, prefix, suffix) == first
        last = [1, pre, suf, *after, mid, *model.encode(prefix)]
        assert infill_ids(tokenizer, prefix, suffix, order="suffix-first") == last
    assert tokenizer.settings.infill is not None
    assert tokenizer.settings.infill.eot_id == model.piece_to_id("▁<EOT>")


def test_the_middle_keeps_its_space(tmp_path: Path, model: sentencepiece.SentencePieceProcessor) -> None:
    tokenizer = load_tokenizer(tmp_path / "tokenizer.model")
    stream, ids = TextStream(tokenizer), model.encode("the cat")
    stream.prompt(infill_ids(tokenizer, "a", "b"))
    assert "".join(map(stream.push, ids)) + stream.end() == " the cat"
    assert decode(tokenizer, ids) == "the cat"


def test_what_was_not_trained_for_it_is_refused(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path / "tokenizer.model")
    with pytest.raises(InputError, match="as Code Llama 7B and 13B have"):
        infill_ids(load_tokenizer(tmp_path), "a", "b")


def test_another_order_is_refused(tmp_path: Path, model: sentencepiece.SentencePieceProcessor) -> None:
    with pytest.raises(InputError, match="prefix-first or suffix-first"):
        infill_ids(load_tokenizer(tmp_path / "tokenizer.model"), "a", "b", order="middle")
