"""A corpus that a model writes: seeded, with a held-out part, told apart by BOS, and never half there."""

from pathlib import Path

import pytest

from llamalab import load
from llamalab.errors import FormatError, InputError
from llamalab.model import Transformer
from llamalab.text import Tokenizer, load_tokenizer
from llamalab.train import corpus
from llamalab.train.token_stream import stream_of
from llamalab.train.trainer import held_out_loss

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def writer(request: pytest.FixtureRequest) -> tuple[Transformer, Tokenizer]:
    real: Path = request.getfixturevalue("shared_real")
    model = load(real / "stories260K.bin", dtype="fp32")
    model.arch = model.arch.replace(max_positions=96)  # short rows
    return model, load_tokenizer(real / "tok512.bin")


def test_a_seed_gives_a_text_and_a_held_out_part(tmp_path: Path, writer: tuple[Transformer, Tokenizer]) -> None:
    model, tokenizer = writer
    made = corpus.write_corpus(tmp_path, model, tokenizer, name="stories260K", size_bytes=20_000, seed=3)
    assert corpus.corpus_in(tmp_path) == made
    assert len(made.text.encode()) + len(made.held_out.encode()) > 0.8 * 20_000
    assert 0.02 < len(made.held_out) / len(made.text) < 0.08
    assert made.text.count("<s>") > made.about["rows"] * 0.9  # type: ignore[operator]
    again = corpus.write_corpus(tmp_path / "b", model, tokenizer, name="x", size_bytes=20_000, seed=3)
    other = corpus.write_corpus(tmp_path / "c", model, tokenizer, name="x", size_bytes=20_000, seed=4)
    assert (again.text, again.held_out) == (made.text, made.held_out)
    assert other.text != made.text
    with pytest.raises(InputError, match=r"must be new; .*stories.txt exists"):
        corpus.write_corpus(tmp_path, model, tokenizer, name="x")
    ids = stream_of(made.text, tokenizer, held_out=made.held_out)
    loss = held_out_loss(model, ids, seq=90, batch=8)
    assert 1.2 < loss < 2.6  # of its own text at temperature 1, rows cut at 96 tokens; guessing is 6.2
    (tmp_path / "stories.json").write_text('{"schema_version": 9}')
    with pytest.raises(FormatError, match="write the corpus anew"):
        corpus.corpus_in(tmp_path)
    assert corpus.corpus_in(tmp_path / "absent") is None
