"""Marks for torch.compile that do not import the compiler."""

from collections.abc import Callable

from llamalab.startup.hints import TypeVar

Question = TypeVar("Question", bound=Callable[..., object])


def constant_in_graphs(question: Question) -> Question:
    """Mark a function whose result torch.compile is to take as a constant, and not trace.

    torch.compiler.assume_constant_result does the same, and imports the compiler for it, which takes a second.
    """
    question._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return question
