"""What a long command says while it works: it ticks, and tells how much time is left as soon as that is known."""

import pytest

from llamalab.cli import progress as shown
from llamalab.cli.progress import Progress
from llamalab.measure.timing.deadline import Deadline


class Now:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    clock = Now()
    monkeypatch.setattr(shown, "now_s", clock)
    monkeypatch.setattr(shown, "TICK_S", 1e6)  # no line of the ticking thread between those of the test
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_the_time_left_goes_by_the_share_that_is_done(now: Now, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress("roofs", 0.0)
        now.s = 3.0
        progress("roof of copy", 0.02)
        now.s = 10.0
        progress("prefill", 0.5)
        progress("done", 1.0)
    assert lines(capsys) == [
        "  0% roofs", "  2% roof of copy, about 2 min left", " 50% prefill, about 10 s left", "100% done",
    ]  # fmt: skip


def test_the_time_left_shrinks_while_a_step_goes_on(
    now: Now, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "TICK_S", 0.01)
    with Progress() as progress:
        now.s = 20.0
        progress("repetition 1 of 5", 0.5)
        for then_s, said in (
            (20.0, " 50% repetition 1 of 5, about 20 s left"),
            (30.0, " 75% repetition 1 of 5, about 10 s left"),
            (50.0, " 99% repetition 1 of 5, nearly done"),
        ):
            now.s = then_s
            while said not in capsys.readouterr().err:
                pass


def test_a_first_step_that_takes_long_says_how_long_it_has_taken(
    now: Now, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "TICK_S", 0.01)
    with Progress() as progress:
        progress("roofs", 0.0)
        now.s = 72.0
        while "72 s" not in (said := capsys.readouterr().err):
            pass
    assert "  0% roofs, 72 s so far" in said


def test_a_deadline_bounds_what_is_left(now: Now, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Deadline(600.0, now=now)) as progress:
        progress("roofs", 0.0)
        now.s = 590.0
        progress("attention", 0.9)
        now.s = 600.0
        progress("the page", 0.95)
    assert lines(capsys) == [
        "  0% roofs, at most 10 min left",
        " 90% attention, at most 10 s left",
        " 95% the page, nearly done",
    ]
