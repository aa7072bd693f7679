"""SIGTERM and SIGHUP end a command as Ctrl-C does: it unwinds, and what is unfinished goes. None of them is lost."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    first = NumpyFirst()
    sys.meta_path.insert(0, first)
    try:
        yield
    finally:
        if first in sys.meta_path:
            sys.meta_path.remove(first)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


class NumpyFirst:
    """Import numpy before torch: torch imports it from C++, where it drops what is raised meanwhile, Ctrl-C too."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing; once, before torch is found, import numpy from Python."""
        if name == "torch":
            sys.meta_path.remove(self)
            with suppress(ImportError):  # whoever needs it will say so
                import numpy  # noqa: F401
