"""The end of a rank soon after a signal, or after the end of its peers or its parent.

A rank in a collective runs no Python, so that a signal handler would not run either. A thread watches
instead: some seconds after a signal, or when the parent is gone, it ends the process.
"""

import os
import select
import signal
import threading
import time

GRACE_S = 3.0  # to unwind; a lost rank must end the run within 10 s
LOST = 75  # exit code of a rank that ends because of another one: never the cause (EX_TEMPFAIL of sysexits.h)
_LOST_WORDS = ("gloo", "NCCL", "Connection reset", "Connection closed", "Broken pipe", "store")


class RankWatch(threading.Thread):
    """Ends this process when it does not end by itself after a signal, or after `leave`, or without its parent."""

    def __init__(self) -> None:
        super().__init__(name="llamalab-watch", daemon=True)
        self._parent, self._reader = os.getppid(), -1
        self._end_s: float | None = None
        self._code = 1

    def begin(self) -> "RankWatch":
        """Start the thread; from the main thread, which receives signals."""
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.start()
        return self

    def leave(self, code: int) -> None:
        """The process is to end with this code, GRACE_S from now at the latest."""
        self._code, self._end_s = code, time.monotonic() + GRACE_S

    def run(self) -> None:
        """Check twice a second, and at every signal."""
        while True:
            ready, _, _ = select.select([self._reader], [], [], 0.5)
            for number in os.read(self._reader, 64) if ready else b"":
                if self._end_s is None and number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                    self.leave(128 + number)
            if os.getppid() != self._parent:
                os._exit(LOST)
            if self._end_s is not None and time.monotonic() > self._end_s:
                os._exit(self._code)


def is_loss(error: BaseException) -> bool:
    """Whether an error reports only the loss of another rank."""
    if type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST_WORDS)
