"""The heads of a real checkpoint in a real sentence, against transformers; what cannot be read, and why."""

from pathlib import Path

import pytest
import torch

from llamalab.checkpoints import load, open_weights
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.errors import InputError, LlamaLabError
from llamalab.measure.report import patterns as module
from llamalab.measure.report.patterns import (
    MOST_PIECES,
    SENTENCE,
    ReadSentence,
    head_shares,
    patterns_of,
    read_sentence,
)
from llamalab.model import Transformer
from llamalab.records.patterns import HEAD_KINDS, WHOLE, Patterns
from tests.checkpoints.samples import ARCH, random_model

IDS = (1, 5, 9, 7, 5, 9, 7, 7)


@pytest.fixture(scope="module")
def story(shared_real: Path) -> tuple[Transformer, ReadSentence, Patterns]:
    """The model of stories260K, the sentence as it reads it, and what its heads look at."""
    path = shared_real / "stories260K.bin"
    model = load(path, dtype="fp32")
    read = read_sentence(path, open_weights(path), tokenizer=shared_real / "tok512.bin")
    assert read is not None
    return model, read, patterns_of(model, read)


@pytest.mark.shared
def test_the_sentence_is_in_the_checkpoints_own_tokens(story: tuple[Transformer, ReadSentence, Patterns]) -> None:
    _, read, found = story
    assert read.text == SENTENCE
    assert "".join(read.tokens[1:]).strip() == SENTENCE
    assert read.options == " --tokenizer tok512.bin"
    assert (found.tokens, found.fault, found.reason) == (list(read.tokens), None, None)
    assert (found.layers, found.n_heads, len(found.heads)) == (5, 8, 40)
    assert [one.kind for one in found.shown] == list(HEAD_KINDS)
    assert len({(one.layer, one.head) for one in found.shown}) == len(HEAD_KINDS)


@pytest.mark.shared
@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_weight_and_share_is_that_of_transformers(story: tuple[Transformer, ReadSentence, Patterns]) -> None:
    from tests.model.hf_reference import hf_model

    model, read, found = story
    with torch.no_grad():
        theirs = hf_model(model)(torch.tensor([read.ids]), output_attentions=True).attentions
    for one in found.shown:
        expected = theirs[one.layer][0, one.head]
        for t, row in enumerate(one.rows_permille):
            torch.testing.assert_close(torch.tensor(row) / WHOLE, expected[t, : t + 1], atol=6e-4, rtol=0)
    rows = range(2, len(read.ids))
    for head in found.heads:
        expected = theirs[head.layer][0, head.head]
        by_hand = {
            "first": [expected[t, 0] for t in rows],
            "previous": [expected[t, t - 1] for t in rows],
            "itself": [expected[t, t] for t in rows],
            "distance_tokens": [sum(expected[t, s] * (t - s) for s in range(t)) for t in rows],
        }
        for kind, values in by_hand.items():
            assert getattr(head, kind) == pytest.approx(float(sum(values)) / len(values), abs=6e-4)


def test_shares_of_what_was_seen_before() -> None:
    pattern_TS = torch.zeros(len(IDS), len(IDS))
    for t in range(len(IDS)):
        pattern_TS[t, t] = 1.0
    pattern_TS[4] = torch.tensor([0, 0.5, 0.25, 0, 0.25, 0, 0, 0])  # 5 came at 1, and 9 after it
    pattern_TS[7] = torch.tensor([0, 0, 0, 0.1, 0.2, 0, 0.3, 0.4])  # 7 came at 3 and 6; 5 after the first
    found = head_shares(0, 0, pattern_TS, IDS)
    assert found.same == pytest.approx((0.5 + 0 + 0 + 0.4) / 4)  # tokens 4, 5, 6 and 7
    assert found.after_same == pytest.approx((0.25 + 0 + 0 + 0.2) / 4, abs=6e-4)
    assert head_shares(0, 0, torch.eye(3), (1, 5, 9)).same is None


@pytest.mark.shared
def test_a_tokenizer_of_another_vocabulary_is_a_reason_or_refused_where_it_was_named(shared_real: Path) -> None:
    path = shared_real / "stories260K.bin"
    weights = open_weights(path)
    read = read_sentence(path, weights)  # beside it lies that of Llama 2
    assert read is not None
    assert read.reason is not None
    assert "512 pieces; the one found has 32,000" in read.reason
    assert patterns_of(random_model(ARCH), read) == Patterns(text=SENTENCE, reason=read.reason)
    for named in ({"tokenizer": shared_real / "tokenizer.model"}, {"text": "Lily"}):
        with pytest.raises(InputError, match="512 pieces"):
            read_sentence(path, weights, **named)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least two tokens"):
        read_sentence(path, weights, text="", tokenizer=shared_real / "tok512.bin")
    long = read_sentence(path, weights, text="Lily " * 99, tokenizer=shared_real / "tok512.bin")
    assert long is not None
    assert len(long.ids) == MOST_PIECES


def test_without_weights_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    assert read_sentence("7b", None) is None
    with pytest.raises(InputError, match="must come with the weights of a checkpoint"):
        read_sentence("7b", None, text="A sentence.")
    path, weights = tmp_path / "model.bin", weights_of(random_model(ARCH))
    path.touch()
    read = read_sentence(path, weights)
    assert read is not None
    assert read.reason is not None
    with pytest.raises(LlamaLabError):
        read_sentence(path, weights, tokenizer=tmp_path / "absent")


def test_only_the_clearest_heads_of_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = random_model(ARCH), ReadSentence("", IDS, tuple(map(str, IDS)))
    whole = patterns_of(model, read)
    monkeypatch.setattr(module, "MOST_HEADS", 3)
    few = patterns_of(model, read)
    assert len(few.heads) == len(few.shown) == 3
    assert {one.most[1] for one in few.heads} == set(sorted((one.most[1] for one in whole.heads), reverse=True)[:3])
    assert few.fault is None


def test_weights_that_are_no_numbers_are_a_reason() -> None:
    model = random_model(ARCH)
    with torch.no_grad():
        model.layers[1].attention.wq.weight.fill_(torch.nan)
    assert patterns_of(model, ReadSentence("", IDS, tuple(map(str, IDS)))).reason == (
        "the weights of the pass are not all numbers"
    )
