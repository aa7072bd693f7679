from pathlib import Path

import pytest

from llamalab.errors import InputError
from llamalab.text import load_tokenizer
from llamalab.text.dialog import Message, check_dialog, encode_dialog


class Letters:
    """A tokenizer whose ids are code points, so that an encoded dialog can be read."""

    vocab_size, bos_id, eos_id, space_first = 0x110000, ord("⊢"), ord("⊣"), False

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        return [self.bos_id] * bos + list(map(ord, text))

    def piece(self, token_id: int) -> bytes:
        return chr(token_id).encode()


def written(*messages: tuple[str, str]) -> str:
    return "".join(map(chr, encode_dialog(Letters(), messages)))


def test_the_exact_format() -> None:
    assert written(("user", " Hi? \n")) == "⊢[INST] Hi? [/INST]"
    assert (
        written(("user", "Hi"), ("assistant", " Hello.\n"), ("user", "Who?"))
        == "⊢[INST] Hi [/INST] Hello. ⊣⊢[INST] Who? [/INST]"
    )
    assert written(("system", "Be brief."), ("user", "Hi ")) == "⊢[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]"
    assert (
        written(("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e"))
        == "⊢[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b ⊣⊢[INST] c [/INST] d ⊣⊢[INST] e [/INST]"
    )


def test_only_the_whole_first_message_is_stripped() -> None:
    # As Meta's code has it: the system prompt keeps its white space, and so does what follows it.
    assert written(("system", " S "), ("user", " a ")) == "⊢[INST] <<SYS>>\n S \n<</SYS>>\n\n a [/INST]"


@pytest.mark.shared
def test_the_published_ids(shared_real: Path) -> None:
    tokenizer = load_tokenizer(shared_real / "tokenizer.model")
    recipe = [("user", "what is the recipe of mayonnaise?")]
    asked = [1, 518, 25580, 29962, 825, 338, 278, 9522, 412, 310, 1122, 11586, 895, 29973, 518, 29914, 25580, 29962]
    assert encode_dialog(tokenizer, recipe) == asked
    # The answer's turn ends in a space, id 29871, and EOS.
    again = encode_dialog(tokenizer, [*recipe, ("assistant", "Eggs"), ("user", "what is the recipe of mayonnaise?")])
    assert again[: len(asked)] == asked
    assert again[-len(asked) - 2 :] == [29871, 2, *asked]


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("", "must end with a message of the user; it has none"),
        ("s", "must end with a message of the user; it has none"),
        ("ua", "must end with a message of the user; it does not"),
        ("au", "user first, after at most one system message; message 1 is of assistant"),
        ("uu", "message 2 is of user"),
        ("suau" + "u", "message 5 is of user"),
        ("usu", "message 2 is of system"),
        ("ssu", "message 2 is of system"),
        ("x", "role of a message must be system, user or assistant; got 'x'"),
    ],
)
def test_roles_and_their_order(roles: str, message: str) -> None:
    names = {"u": "user", "a": "assistant", "s": "system"}
    with pytest.raises(InputError, match=message):
        check_dialog([Message(names.get(role, role), "text") for role in roles])


@pytest.mark.parametrize("mark", ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"])
@pytest.mark.parametrize("place", range(4))
def test_marks_in_any_content_are_refused(mark: str, place: int) -> None:
    dialog = [["system", "S"], ["user", "a"], ["assistant", "b"], ["user", "c"]]
    dialog[place][1] += f" {mark}!"
    with pytest.raises(InputError, match="must not contain"):
        encode_dialog(Letters(), [Message(*message) for message in dialog])
