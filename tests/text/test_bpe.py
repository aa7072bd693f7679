import itertools

from hypothesis import given
from hypothesis import strategies as st

from llamalab.text.bpe import merge


def slow_merge(text: str, scores: dict[str, float]) -> list[str]:
    """The definition, word for word: again and again the best pair, the leftmost of equals."""
    parts = list(text)
    while True:
        pairs = [(-scores[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in scores]
        if not pairs:
            return parts
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@given(
    text=st.text("abc", max_size=40),
    scores=st.dictionaries(st.text("abc", min_size=2, max_size=5), st.integers(-3, 3).map(float), max_size=30),
)
def test_merge_is_the_definition_of_byte_pair_encoding(text: str, scores: dict[str, float]) -> None:
    assert merge(text, scores.get) == slow_merge(text, scores)


def test_equal_scores_join_from_the_left() -> None:
    assert merge("aaaaa", {"aa": 1.0}.get) == ["aa", "aa", "a"]


def test_a_score_of_zero_is_a_score() -> None:
    assert merge("ab", {"ab": 0.0}.get) == ["ab"]


def test_empty_text_and_single_character() -> None:
    assert merge("", {}.get) == []
    assert merge("a", {}.get) == ["a"]
