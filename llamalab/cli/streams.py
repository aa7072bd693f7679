"""Standard input, output and error as a command needs them, whatever it was started with.

A closed output fails when it is written to, as a full one does; notes that nobody can read never end a command; a
terminal without a sign gets a question mark.
"""

import io
import os
import sys


def prepare() -> None:
    """Stand-ins for closed streams, and no stream that a sign or a full disk below stderr can break."""
    # Any file opened later would take the number of a closed stream, and get what is printed to it.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number < 2 else os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = getattr(sys.stderr, "encoding", "utf-8")
        sys.stderr = io.TextIOWrapper(_Notes(2, "w", closefd=False), encoding, "backslashreplace", write_through=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.encoding.lower() in ("ascii", "ansi_x3.4-1968"):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")


def discard() -> None:
    """What Python still flushes at exit goes nowhere, not to a traceback."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class _Notes(io.FileIO):
    """A file that says it took what it could not write."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]
