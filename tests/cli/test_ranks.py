"""A rank ends at once when its work is done, with the code of its verb."""

import os
from typing import Any, NoReturn

import pytest

from llamalab.cli import ranks
from llamalab.errors import InputError
from llamalab.parallel import rank_watch, team
from llamalab.parallel.team import Place


class Ended(BaseException):
    """The process, which would have ended here."""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank without others, and a process whose end is seen."""

    class Team:
        def __init__(self, place: Place) -> None:
            self.place, self.leads, self.followed = place, place.rank == 0, False

        @classmethod
        def join(cls, place: Place, device: str) -> "Team":
            return cls(place)

        def follow(self) -> None:
            self.followed = True

        def speaks_first(self) -> bool:
            return True

    class Watch:
        def begin(self) -> "Watch":
            return self

        def leave(self, code: int) -> None:
            pass

    def end(code: int) -> NoReturn:
        raise Ended(code)

    monkeypatch.setattr(team, "Team", Team)
    monkeypatch.setattr(rank_watch, "RankWatch", Watch)
    monkeypatch.setattr(os, "_exit", end)


@pytest.mark.parametrize(("rank", "code"), [(0, 3), (0, 0), (1, 0)])
def test_the_interpreter_of_a_rank_is_not_shut_down(alone: None, rank: int, code: int) -> None:
    """Where torch's threads may abort, a verb that is done would be taken for a rank that was killed."""
    with pytest.raises(Ended) as end:
        ranks._as_rank(lambda _: code, Place(rank, 2, rank), "cpu", None)
    assert end.value.args == (code,)


def test_an_error_of_the_verb_is_said_as_without_ranks(alone: None) -> None:
    def lead(_: Any) -> int:
        raise InputError("heads must divide; got 3")

    with pytest.raises(InputError, match="heads must divide"):
        ranks._as_rank(lead, Place(0, 2, 0), "cpu", None)
