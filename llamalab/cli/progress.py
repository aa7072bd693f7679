"""Progress of a long command, on stderr so that stdout is data alone."""

import sys
import threading
from types import TracebackType

from llamalab.measure.timing.deadline import now_s
from llamalab.startup.hints import Protocol

TICK_S = 1.6  # between two lines of one long step
_LEAST_DONE = 0.01  # share done from which the time left is estimated
_MOST_SHOWN = 0.99  # of a step that takes longer than its share
_IN_MINUTES_S = 120


def _rounded(seconds: float) -> str:
    """An estimated time.

    >>> _rounded(72.4), _rounded(900.0)
    ('72 s', '15 min')
    """
    return f"{seconds:.0f} s" if seconds < _IN_MINUTES_S else f"{seconds / 60:.0f} min"


class TimeLimit(Protocol):
    """An object with the remaining seconds, such as measure.timing.deadline.Deadline."""

    @property
    def left_s(self) -> float:
        """Seconds until it ends."""


class Progress:
    """A bar on stderr that follows `progress(label, share done)`; a line per step where it is no terminal.

    The line is repeated while a step is long, with the time left: the most that a deadline allows, else in proportion
    to the share done, less the time since; before a share is known the time so far.
    """

    def __init__(self, deadline: TimeLimit | None = None) -> None:
        self._deadline, self._label, self._done = deadline, "", 0.0
        self._over, self._begun_s, self._shown_s = threading.Event(), now_s(), now_s()
        self._ends_s: float | None = None  # by the share that was done at the last step

    def __enter__(self) -> "Progress":
        from tqdm import tqdm

        self._bar = tqdm(
            total=1.0,
            bar_format="{desc:<44.44} {bar} {percentage:3.0f}% {elapsed}",
            file=sys.stderr,
            leave=False,
            disable=not sys.stderr.isatty(),
        )
        self._ticks = threading.Thread(target=self._tick, daemon=True)
        self._ticks.start()
        return self

    def __call__(self, label: str, done: float) -> None:
        self._label, self._done = label, done
        spent_s = now_s() - self._begun_s
        known = _LEAST_DONE <= done < 1.0
        self._ends_s = now_s() + spent_s * (1 - done) / done if known else None
        self._show()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._ticks.join()
        self._bar.close()

    def _show(self) -> None:
        self._shown_s, left = now_s(), self._left()
        done = self._share()
        if self._bar.disable:
            print(f"{done:4.0%} {self._label}{left}", file=sys.stderr, flush=True)
            return
        self._bar.set_description_str(f"{self._label[: 44 - len(left)]}{left}", refresh=False)
        self._bar.n = done
        self._bar.refresh()

    def _share(self) -> float:
        """The share that is done, which grows while a step goes on."""
        if self._ends_s is None or self._deadline is not None:
            return self._done
        whole_s = self._ends_s - self._begun_s
        return max(self._done, min(_MOST_SHOWN, (now_s() - self._begun_s) / whole_s)) if whole_s else self._done

    def _left(self) -> str:
        """How long it may still take, after the label."""
        if self._done >= 1.0:
            return ""
        if self._deadline is not None:
            left_s = self._deadline.left_s
            return f", at most {_rounded(left_s)} left" if left_s >= 1.0 else ", nearly done"
        if self._ends_s is None:
            spent_s = now_s() - self._begun_s
            return f", {_rounded(spent_s)} so far" if spent_s >= TICK_S else ""
        left_s = self._ends_s - now_s()
        return f", about {_rounded(left_s)} left" if left_s >= 1.0 else ", nearly done"

    def _tick(self) -> None:
        """Repeat the current step's label while it runs for long."""
        while not self._over.wait(TICK_S / 4):
            if self._label and now_s() - self._shown_s > TICK_S:
                self._show()
