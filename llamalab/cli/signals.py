"""SIGTERM and SIGHUP end a command as Ctrl-C does: it unwinds, and what is unfinished goes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def ended_as_by_signal() -> Iterator[None]:
    """While a command runs, a signal that ends it unwinds it; what ignores the signal, as nohup, goes on doing so."""
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, _end)
    except ValueError:  # not in the main thread: signals are its business
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
