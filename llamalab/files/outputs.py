"""Files and folders that are written completely or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from llamalab.errors import InputError, LlamaLabError, MissingError
from llamalab.files.workspace import put_in_place, workspace
from llamalab.startup.hints import BinaryIO

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: str | os.PathLike[str], text: str, *, ours: str | None = None) -> None:
    """Write UTF-8 text beside the target, then rename it into place.

    If `ours` is given, an existing file that does not contain it is not llamalab's and is not replaced. Raises
    InputError for that and for an invalid name, MissingError where the folder cannot be written, OSError where the disk
    is full.
    """
    write_texts({Path(path): text}, ours={Path(path): ours})


def write_texts(texts: Mapping[Path, str], *, ours: Mapping[Path, str | None]) -> None:
    """Write files of one folder, all of them or none; `ours` of each, and errors, as for write_text."""
    targets = list(texts)
    check_targets({target: ours[target] for target in targets})
    folder = targets[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    with workspace(folder) as place:
        for target, text in texts.items():
            (place / target.name).write_bytes(text.encode())
        put_in_place(place, targets)


@contextmanager
def replacing(path: str | os.PathLike[str], *, ours: str | None = None) -> Iterator[BinaryIO]:
    """A binary file beside the target, renamed to the target when the block succeeds.

    After an exception, Ctrl-C included, the target is unchanged. Errors as for write_text.
    """
    target = Path(path)
    check_target(target, ours=ours)
    target.parent.mkdir(parents=True, exist_ok=True)
    with workspace(target.parent) as place:
        with (place / target.name).open("wb") as file:
            yield file
        put_in_place(place, [target])


@contextmanager
def new_outputs(targets: Sequence[Path]) -> Iterator[Path]:
    """A folder in which to make new files or folders under their targets' names; all are moved together at the end.

    Raises InputError where a target exists by then, and MissingError where the disk is full, also where a library
    hides that behind an error of its own.
    """
    folder = targets[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    with workspace(folder) as place:
        try:
            yield place
        except (OSError, RuntimeError) as error:
            if (lack := _lack_of_room(place, error)) is None:
                raise
            raise MissingError(
                f"the disk must have room for {targets[-1]}; {lack}; free some or choose another path"
            ) from None
        put_in_place(place, [target for target in targets if (place / target.name).exists()], new=True)


def keep_text(path: str | os.PathLike[str], text: str, *, ours: str | None = None) -> Path:
    """Write text that cannot be made again: as write_text, or, where that fails, as a temporary file.

    Returns its path. Raises the error of write_text where neither succeeds.
    """
    try:
        write_text(path, text, ours=ours)
        return Path(path)
    except (LlamaLabError, OSError) as error:
        try:
            place = Path(tempfile.mkdtemp(prefix="llamalab-"))
            write_text(place / f"kept{Path(path).suffix}", text)
        except (LlamaLabError, OSError):
            raise error from None
        return place / f"kept{Path(path).suffix}"


def check_target(path: str | os.PathLike[str], *, ours: str | None = None) -> None:
    """Check before any work that `path` can be written: see write_text."""
    check_targets({Path(path): ours})


def check_new(targets: Sequence[Path]) -> None:
    """As check_targets, for targets that must not exist yet."""
    for target in targets:
        if os.path.lexists(target):
            raise InputError(f"the output must be new; {target} exists; remove it or choose another path")
    check_targets(dict.fromkeys(targets))


def check_targets(targets: Mapping[Path, str | None]) -> None:
    """As check_target, for several files of one folder: each name is tried in a hidden folder."""
    for target, ours in targets.items():
        try:
            _check_present(target, ours)
            _try_name(target)
        except LlamaLabError:
            raise
        except (OSError, ValueError) as error:
            what = f"{target} cannot be: {getattr(error, 'strerror', None) or error}; choose another path"
            if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                raise InputError(f"the output must have a possible name; {what}") from None
            raise MissingError(f"the output must be writable; {what}") from None


def _check_present(target: Path, ours: str | None) -> None:
    if not os.path.lexists(target):
        return
    if target.is_dir():
        raise InputError(f"the output must be a file; {target} is a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise InputError(f"the output must be a file; {target} is a device or a pipe; choose another path")
    if ours is not None and target.exists() and ours not in _head(target):
        raise InputError(f"the output must be new or a file llamalab wrote; {target} is neither; choose another path")


def _try_name(target: Path) -> None:
    """Make a file of this name, folders and a first block included, below the nearest existing folder.

    Only a real file proves it: for root every folder appears writable.
    """
    folder = target.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with workspace(folder) as place:
        trial = place / target.relative_to(folder)
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(bytes(4096))


def _lack_of_room(place: Path, error: Exception) -> str | None:
    """Whether an error came from a full disk; None where there is room."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return os.strerror(error.errno)
    largest = max((file.stat().st_size for file in place.rglob("*") if file.is_file()), default=0)
    try:
        with (place / "trial").open("wb") as file:  # as large as what was being written, and a block more
            file.seek(largest)
            file.write(bytes(65536))
    except OSError as trial:
        return os.strerror(trial.errno) if trial.errno in _NO_ROOM else None
    return None


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(65_536).decode("utf-8", "replace")
