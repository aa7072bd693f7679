"""Each error says what it is by its type, and ends a command with its own code."""

import pickle

import pytest

from llamalab import errors
from llamalab.errors import (
    CacheOverflowError,
    DoesNotFitError,
    FormatError,
    InputError,
    LlamaLabError,
    MissingError,
    UnavailableError,
    UnknownNameError,
)


@pytest.mark.parametrize("kind", [InputError, FormatError, CacheOverflowError])
def test_bad_input_is_a_value_error_and_ends_with_2(kind: type[LlamaLabError]) -> None:
    error = kind("x must be y; got z")
    assert isinstance(error, ValueError)
    assert error.exit_code == 2


@pytest.mark.parametrize("kind", [UnavailableError, MissingError, DoesNotFitError])
def test_what_is_missing_or_does_not_fit_ends_with_3(kind: type[LlamaLabError]) -> None:
    assert kind("x").exit_code == 3
    assert not issubclass(kind, ValueError)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = errors.__doc__ or ""
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, LlamaLabError)]
    assert len(kinds) == 8
    assert all(kind.__name__ in drawn for kind in kinds)


@pytest.mark.parametrize(
    ("given", "ending"),
    [("7B", "got '7B'; did you mean 7b or 70b?"), ("gpt", "got 'gpt'"), ("", "got ''"), ("13", "did you mean 13b?")],
)
def test_an_unknown_name_lists_all_and_names_the_nearest(given: str, ending: str) -> None:
    message = str(UnknownNameError("model", given, ["7b", "13b", "70b"], hint=" or a path"))
    assert message.startswith("model must be one of 7b, 13b, 70b or a path; ")
    assert message.endswith(ending)


def test_a_part_of_a_name_is_nearer_than_like_letters() -> None:
    known = ["70b", "34b", "llama-3.1-405b", "gemma-2b", "gemma-7b", "gemma-3-27b"]
    assert str(UnknownNameError("model", "405B", known)).endswith("did you mean llama-3.1-405b?")
    assert str(UnknownNameError("model", "gemma", known)).endswith("did you mean gemma-2b or gemma-7b?")


def test_a_hint_is_spelled_by_who_shows_it() -> None:
    error = DoesNotFitError("the run must fit; it does not", hint="try fewer {tensor_parallel} or a smaller {dtype}")
    assert str(error) == "the run must fit; it does not; try fewer tensor_parallel or a smaller dtype"
    told = error.spelled(lambda argument: f"<{argument}>")
    assert told == "the run must fit; it does not; try fewer <tensor_parallel> or a smaller <dtype>"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.spelled(str.upper)) == (str(error), error.spelled(str.upper))
    assert InputError("x {y}").spelled(str.upper) == "x {y}"  # only a hint has arguments
