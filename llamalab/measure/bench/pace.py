"""The progress of a bench as the share of its time: what was spent, beside what the remaining tests will take.

A test takes its predicted seconds, once for the warm-up and once for each repetition, longer or shorter by as much as
the work that is done was. Before anything can be predicted the share is 0.
"""

from collections.abc import Callable, Sequence

from llamalab.measure.timing.deadline import ProgressCallback, now_s

_TELLING = 0.1  # of a test, from which on its time says how far the predictions are off


class Pace:
    """Calls `progress` with a label and the share that is done, which shrinks where more is left than was expected."""

    def __init__(self, progress: ProgressCallback, turns: int, *, now: Callable[[], float] = now_s) -> None:
        self._progress, self._turns, self._now = progress, turns, now
        self._began_s, self._tests_began_s = now(), 0.0
        self._tests_s: list[float] = []
        self._calibration_s = 0.0

    def expect(self, seconds: Sequence[float | str], calibration_s: float = 0.0) -> None:
        """Take the predicted seconds of a repetition of each test, and of the calibration before them.

        A test without a prediction is taken for an average one.
        """
        known = [one for one in seconds if not isinstance(one, str)]
        usual = sum(known) / len(known) if known else 0.0
        self._tests_s = [self._turns * (usual if isinstance(one, str) else one) for one in seconds]
        self._calibration_s = calibration_s

    def before(self, label: str, calibrated: float) -> None:
        """A step before the tests, and the share of the calibration that is done."""
        self._show_left(label, (1 - calibrated) * self._calibration_s + sum(self._tests_s))

    def test(self, number: int, label: str, share: float) -> None:
        """A step of a test, of which a share is done."""
        if number == 0 and share == 0.0:
            self._tests_began_s = self._now()
        if not any(self._tests_s):
            self._progress(label, (number + share) / max(1, len(self._tests_s)))
            return
        own_s = self._tests_s[number]
        done_s = sum(self._tests_s[:number]) + share * own_s
        spent_s = self._now() - self._tests_began_s
        slower = spent_s / done_s if done_s > _TELLING * self._tests_s[0] else 1.0
        self._show_left(label, slower * (sum(self._tests_s) - done_s))

    def finish(self) -> None:
        """All tests are done."""
        self._progress("done", 1.0)

    def _show_left(self, label: str, left_s: float) -> None:
        spent_s = self._now() - self._began_s
        self._progress(label, spent_s / (spent_s + left_s) if self._tests_s and spent_s else 0.0)
