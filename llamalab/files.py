"""Writing files so that none is ever left half written, and mapping files so that none is trusted."""

import mmap
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from llamalab.errors import FormatError, InputError, MissingError

# Without it Linux grants no private mapping of a file larger than memory, though nobody will write to
# it. Python names it from 3.13 on.
_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def write_text(path: str | os.PathLike[str], text: str, *, ours: str | None = None) -> None:
    """Write UTF-8 text beside the target, then rename it into place.

    Where `ours` is given, an existing file that does not contain it is not llamalab's and is
    left alone. Raises InputError for that, MissingError where the folder cannot be written.
    """
    with replacing(path, ours=ours) as file:
        file.write(text.encode())


@contextmanager
def replacing(path: str | os.PathLike[str], *, ours: str | None = None) -> Iterator[BinaryIO]:
    """A binary file to write beside the target; it takes the target's place when the block ends well.

    After an exception, Ctrl-C included, the target is as it was. Errors as for write_text.
    """
    target = Path(path)
    check_target(target, ours=ours)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes files private; a report should be as readable as any new file.
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, target)
    except BaseException:
        os.unlink(aside)
        raise


def map_file(path: str | os.PathLike[str], what: str) -> mmap.mmap:
    """The bytes of a regular file, mapped copy-on-write: nothing is read before it is touched.

    Raises MissingError where there is no file, FormatError where it is empty or no regular file.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                raise FormatError(f"the {what} must be a file with content; {os.fspath(path)} is not one")
            return mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | _NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE)
    except FormatError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"the {what} must exist; there is no file {os.fspath(path)}; check the path") from None
    except IsADirectoryError:
        raise FormatError(f"the {what} must be a file; {os.fspath(path)} is a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        raise MissingError(f"the {what} must be readable; {os.fspath(path)}: {error}") from None


def check_target(path: str | os.PathLike[str], *, ours: str | None = None) -> None:
    """Say before any work whether `path` can be written: see write_text."""
    target = Path(path)
    if target.is_dir():
        raise InputError(f"the output must be a file; {target} is a folder; name a file in it")
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    try:
        # Only a file shows that one can be made: for root every folder claims to be writable.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise MissingError(f"the output folder must be writable; {folder} is not; choose another path") from None
    if ours is not None and target.exists() and ours not in _head(target):
        raise InputError(f"the output must be new or a file llamalab wrote; {target} is neither; choose another path")


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(65_536).decode("utf-8", "replace")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe without a writer would block the open for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
