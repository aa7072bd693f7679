"""The taps on a model, on a stack that every forward pass reads; the model itself is not changed.

Copies and pickles of a model have no taps. Only one thread at a time may add taps to a model.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llamalab.errors import InputError
from llamalab.model.tap import Tap, joined


class TapStack:
    """Taps in the order in which they were added; `tap` combines all of them, None where there are none."""

    def __init__(self) -> None:
        self.tap: Tap | None = None
        self.taps: tuple[Tap, ...] = ()
        self._owner: int | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles begin without taps."""
        return TapStack, ()

    @contextmanager
    def holding(self, tap: Tap) -> Iterator[None]:
        """Put `tap` on top for the block. Raises InputError where another thread has taps on the model."""
        self._put(tap)
        try:
            yield
        finally:
            self._take(tap)

    def _put(self, tap: Tap) -> None:
        with self._lock:
            if self.taps and self._owner != threading.get_ident():
                raise InputError(
                    "a model must be tapped by one thread at a time; another one has taps on it; "
                    "wait for its blocks to end, or give each thread a copy of the model"
                )
            self._owner = threading.get_ident()
            self._set((*self.taps, tap))

    def _take(self, tap: Tap) -> None:
        """Take off the uppermost one that is this tap: blocks may end in any order."""
        with self._lock:
            place = max(place for place, one in enumerate(self.taps) if one is tap)
            self._set(self.taps[:place] + self.taps[place + 1 :])

    def _set(self, taps: tuple[Tap, ...]) -> None:
        self.taps, self.tap = taps, None
        for one in taps:
            self.tap = joined(self.tap, one)
