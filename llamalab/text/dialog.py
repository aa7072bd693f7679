r"""A dialog in the format of Llama 2 Chat: turn by turn, each between BOS and EOS:

    BOS "[INST] {user} [/INST] {assistant} " EOS    a turn that is over
    BOS "[INST] {user} [/INST]"                     the last one, to be answered

A system prompt goes into the first user message: "<<SYS>>\n{system}\n<</SYS>>\n\n{user}". Contents
are stripped, after the system prompt was put in front; roles alternate, user first and last
(meta-llama/llama 689c7f2, generation.py, chat_completion). The marks themselves in a content would
let a message pose as another role: they are refused, before any work.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from llamalab.errors import InputError
from llamalab.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")
MARKS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")


class Message(NamedTuple):
    """One message; role is system, user or assistant."""

    role: str
    content: str


def check_marks(content: str, marks: Sequence[str] = MARKS) -> None:
    """Raise InputError for a content with a mark of its format in it."""
    for mark in marks:
        if mark in content:
            raise InputError(f"a message must not contain {mark}, a mark of the format itself; write it otherwise")


def check_dialog(messages: Sequence[Message]) -> None:
    """Raise InputError for unknown or misplaced roles, a dialog that ends in no question, or marks in a content."""
    for message in messages:
        if message.role not in ROLES:
            raise InputError(f"role of a message must be system, user or assistant; got {message.role!r}")
        check_marks(message.content)
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if not turns or turns[-1].role != "user":
        raise InputError("a dialog must end with a message of the user; " + ("it does not" if turns else "it has none"))
    for place, message in enumerate(turns):
        expected = "assistant" if place % 2 else "user"
        if message.role != expected:
            raise InputError(
                "roles must alternate between user and assistant, user first, after at most one system message; "
                f"message {place + len(messages) - len(turns) + 1} is of {message.role}"
            )


def question_text(question: str, *, system: str | None = None) -> str:
    r"""The text of a user message, without BOS.

    >>> question_text(" Hello? ")
    '[INST] Hello? [/INST]'
    >>> question_text("Hello?", system="Be brief.")
    '[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello? [/INST]'
    """
    if system is not None:
        question = f"<<SYS>>\n{system}\n<</SYS>>\n\n{question}"
    return f"[INST] {question.strip()} [/INST]"


def encode_dialog(tokenizer: Tokenizer, messages: Iterable[Message | tuple[str, str]]) -> list[int]:
    """The ids of a whole dialog up to where the answer begins. Raises InputError as check_dialog does."""
    dialog = [Message(*message) for message in messages]
    check_dialog(dialog)
    if tokenizer.eos_id is None:
        raise InputError("a dialog must have a tokenizer with EOS, which ends each turn; this one has none")
    has_system = dialog[0].role == "system"
    system, turns = (dialog[0].content, dialog[1:]) if has_system else (None, dialog)
    ids: list[int] = []
    for at in range(0, len(turns) - 1, 2):
        asked = question_text(turns[at].content, system=system if at == 0 else None)
        ids += [*tokenizer.encode(f"{asked} {turns[at + 1].content.strip()} ", bos=True), tokenizer.eos_id]
    last = question_text(turns[-1].content, system=system if len(turns) == 1 else None)
    return ids + tokenizer.encode(last, bos=True)
