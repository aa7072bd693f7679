from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.errors import InputError
from llamalab.text import PieceTokenizer, TextStream, decode
from llamalab.text.tokenizer import Kind

# Ids 0 to 255 are the bytes, then unknown, BOS, EOS and a space.
BYTES = PieceTokenizer(
    [f"<0x{byte:02X}>" for byte in range(256)] + ["<unk>", "<s>", "</s>", "▁"],
    [0.0] * 260,
    [Kind.BYTE] * 256 + [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, Kind.NORMAL],
    bos_id=257,
    eos_id=258,
)


def cut_at_first_stop(text: str, stops: Sequence[str]) -> str:
    """The definition: the first place where a stop string is complete, and the longest that ends there."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(
    text=st.text("ab é😀", max_size=20),
    stops=st.lists(st.text("ab é😀", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 20)),
)
def test_stop_strings_across_tokens(text: str, stops: list[str], cuts: list[int]) -> None:
    stream, shown = TextStream(BYTES, stops=stops), ""
    expected = cut_at_first_stop(text, stops)
    stream.prompt([259])
    for byte in text.encode():
        shown += stream.push(byte)
        assert expected.startswith(shown)  # nothing of a stop string leaks, ever
    assert shown + stream.end() == expected
    assert stream.stopped == (expected != text)
    assert stream.push(65) == stream.end() == "" or not stream.stopped


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    stream = TextStream(BYTES, stops=["User:"])
    stream.prompt([259])
    assert [stream.push(byte) for byte in b"aUseUses"] == ["a", "", "", "", "Use", "", "", "Uses"]
    assert not stream.stopped


def test_a_held_beginning_comes_at_the_end() -> None:
    stream = TextStream(BYTES, stops=["User:"])
    stream.prompt([259])
    assert "".join(stream.push(byte) for byte in b"a User") == "a "
    assert stream.end() == "User"


def test_a_stop_string_in_the_prompt_ends_nothing() -> None:
    stream = TextStream(BYTES, stops=["ab"])
    assert stream.prompt(b"xaba") == "xaba"
    assert stream.push(ord("b")) == "b"  # nor does one that only ends behind it
    assert not stream.stopped


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InputError, match="at least one character"):
        TextStream(BYTES, stops=["x", ""])


def test_without_stop_strings_all_comes_at_once() -> None:
    assert decode(BYTES, [257, 259, *"añ".encode(), 258]) == "añ"
