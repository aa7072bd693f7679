"""A file mapped copy-on-write: read when touched, never changed."""

import mmap
import os
import stat
import sys

from llamalab.errors import FormatError, MissingError

# Without this flag Linux refuses a private mapping of a file larger than memory, even if nothing writes to
# it. Python names it from 3.13 on.
_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def map_file(path: str | os.PathLike[str], what: str) -> mmap.mmap:
    """The bytes of a regular file, mapped copy-on-write and read when touched.

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


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe without a writer would block the open for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
