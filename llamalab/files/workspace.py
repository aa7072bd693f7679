"""A folder beside a target for unfinished files: renamed into place in one step, and always removed.

It is locked while in use. A lock ends with its process, so that the folder of a killed process has no lock and is
removed by the next write into the same folder. Processes that write into one folder are serialised by a lock on that
folder, which needs no file.
"""

import errno
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from llamalab.errors import InputError

PREFIX, SUFFIX = ".llamalab-", ".tmp"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE_S, _GLANCE_S = 10.0, 0.01  # a turn takes milliseconds; a longer one is not waited for


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, gone when the block ends. Raises OSError where none can be made."""
    with ExitStack() as held:
        with _turn(folder) as alone, undisturbed():
            if alone:
                _sweep(folder)
            place = Path(tempfile.mkdtemp(prefix=PREFIX, suffix=SUFFIX, dir=folder))
            held.callback(_remove, place)
            if (lock := _try_lock(place)) is not None:
                held.callback(os.close, lock)
        yield place


def put_in_place(place: Path, targets: Sequence[Path], *, new: bool = False) -> None:
    """Rename the content of a workspace to the targets: all of it or nothing.

    Raises InputError where a target exists that must be new, OSError where one cannot be replaced.
    """
    before = place / f"{PREFIX}before"  # what the targets were
    before.mkdir()
    done: list[Path] = []
    with _turn(place.parent), undisturbed():
        try:
            for target in targets:
                if new and os.path.lexists(target):
                    raise InputError(f"the output must be new; {target} exists; remove it or choose another path")
                _set_aside(target, before / target.name)
                done.append(target)
                os.replace(place / target.name, target)
        except BaseException:
            for target in reversed(done):
                _restore(before / target.name, target)
            raise


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delay signals that would raise in the middle of a short step until its end."""
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDING}

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    # Outside the main thread nothing is raised by signals, and no handler can be set.
    with suppress(ValueError):
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, wait)
    try:
        yield
    finally:
        with suppress(ValueError):
            for number, handler in before.items():
                if callable(handler):
                    signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def _remove(place: Path) -> None:
    with undisturbed():
        shutil.rmtree(place, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove workspaces without a lock: those of killed processes."""
    for place in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):
            if place.is_symlink() or place.stat().st_uid != os.geteuid():
                continue
            lock = _try_lock(place)
            try:
                if lock is not None:
                    shutil.rmtree(place, ignore_errors=True)
            finally:
                if lock is not None:
                    os.close(lock)


@contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    """Wait until no other process writes into the folder; False where that is unknown."""
    if folder.name.startswith(PREFIX) and folder.name.endswith(SUFFIX):
        yield False  # a workspace: locked while it exists, and used by its holder alone
        return
    deadline = time.monotonic() + _PATIENCE_S
    lock: int | None = None
    with suppress(OSError):  # a folder without read permission, or a file system without locks
        while (lock := _try_lock(folder)) is None and time.monotonic() < deadline:
            time.sleep(_GLANCE_S)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None where another process has it."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _set_aside(target: Path, kept: Path) -> None:
    """Keep the file that stands at the target, as a second name where the file system has such."""
    if target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    try:
        os.link(target, kept, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError:
        os.replace(target, kept)


def _restore(kept: Path, target: Path) -> None:
    with suppress(OSError):
        if os.path.lexists(kept):
            os.replace(kept, target)
        else:
            target.unlink(missing_ok=True)
