import io

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamalab.errors import FormatError
from llamalab.text import PieceTokenizer, decode
from llamalab.text.tokenizer import Kind


def trained(**options: object) -> sentencepiece.SentencePieceProcessor:
    """A small sentencepiece BPE model, Llama's settings unless told otherwise."""
    lines = ["the cat sat on the mat", "a cat and a dog 123 <tag> there", "then they thought about the matter"] * 5
    model = io.BytesIO()
    settings: dict[str, object] = {"vocab_size": 330, "byte_fallback": True} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, minloglevel=2, num_threads=1, **settings,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def pieces_of(model: sentencepiece.SentencePieceProcessor, defined: tuple[str, ...]) -> PieceTokenizer:
    ids = range(model.vocab_size())
    pieces = [model.id_to_piece(i) for i in ids]

    def kind(i: int) -> Kind:
        asked = ((model.is_unknown, Kind.UNKNOWN), (model.is_control, Kind.CONTROL), (model.is_byte, Kind.BYTE))
        found = next((kind for asks, kind in asked if asks(i)), Kind.NORMAL)
        return Kind.USER_DEFINED if pieces[i] in defined else found

    scores = [model.get_score(i) for i in ids]
    return PieceTokenizer(pieces, scores, [kind(i) for i in ids], bos_id=1, eos_id=2)


DEFINED = ("<tag>", "<tag>>", "he▁t")
WITH_DEFINED = trained(user_defined_symbols=list(DEFINED))
WITHOUT_BYTES = trained(byte_fallback=False, vocab_size=60)
WORDS = ["the", " ", "cat", "<tag>", ">", "he t", "a", "ñ", "1", "😀", "▁", "</s>"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=15).map("".join)


@pytest.mark.parametrize(
    ("model", "defined"), [(WITH_DEFINED, DEFINED), (WITHOUT_BYTES, ())], ids=["user-defined pieces", "no bytes"]
)
def test_every_kind_of_piece_encodes_as_sentencepiece(
    model: sentencepiece.SentencePieceProcessor, defined: tuple[str, ...]
) -> None:
    tokenizer = pieces_of(model, defined)

    @given(text=TEXTS)
    @example(text="<tag>>the t<tag>")
    @example(text="ñññ the ñ")
    @settings(max_examples=200, deadline=None)
    def check(text: str) -> None:
        assert tokenizer.encode(text) == model.encode(text)
        assert decode(tokenizer, tokenizer.encode(text)) == model.decode(model.encode(text))

    check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [0.0]}, "3 pieces, 1 scores and 3 kinds"),
        ({"kinds": [1]}, "3 pieces, 3 scores and 1 kinds"),
        ({"bos_id": 3}, "BOS and EOS must be ids of the 3 pieces"),
        ({"eos_id": -1}, "BOS and EOS must be ids of the 3 pieces"),
        ({"kinds": [2, 3, 6]}, "a byte piece must be"),
    ],
)
def test_what_is_no_vocabulary_is_refused(changes: dict[str, object], message: str) -> None:
    sound = {"pieces": ["<unk>", "<s>", "a"], "scores": [0.0] * 3, "kinds": [2, 3, 1], "bos_id": 1, "eos_id": 1}
    with pytest.raises(FormatError, match=message):
        PieceTokenizer(**(sound | changes))  # type: ignore[arg-type]


def test_a_text_may_begin_without_a_space() -> None:
    vocabulary = (["<unk>", "<s>", "a", "▁a"], [0.0] * 4, [2, 3, 1, 1])
    assert PieceTokenizer(*vocabulary, bos_id=1, eos_id=1).encode("a") == [3]
    assert PieceTokenizer(*vocabulary, bos_id=1, eos_id=1, space_first=False).encode("a") == [2]
