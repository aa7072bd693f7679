import os
import stat
from pathlib import Path

import pytest

from llamalab.errors import FormatError, InputError, MissingError
from llamalab.files.mapped import map_file
from llamalab.files.outputs import replacing, write_text


def test_text_is_written_and_readable_as_any_new_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    write_text(target, "größer\r\n")
    assert target.read_bytes() == "größer\r\n".encode()
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")

    def write_half() -> None:
        with replacing(target) as file:
            file.write(b"half of the ne")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.bin"]


def test_files_of_others_and_folders_are_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.html"
    theirs.write_text("mine")
    with pytest.raises(InputError, match="neither"):
        write_text(theirs, "llamalab report", ours="llamalab")
    assert theirs.read_text() == "mine"
    with pytest.raises(InputError, match="is a folder"):
        write_text(tmp_path, "text")


def test_a_mapping_is_copied_on_write(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(b"abcdef")
    data = map_file(path, "file")
    data[:3] = b"xyz"
    assert bytes(data) == b"xyzdef"
    assert path.read_bytes() == b"abcdef"


def test_a_file_larger_than_memory_can_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.truncate(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 4)
    assert map_file(path, "file")[-1] == 0


def test_what_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")  # without a writer: must not wait for one
    for name in ("empty", "pipe"):
        with pytest.raises(FormatError, match=f"the tokenizer must be a file with content; .*{name} is not one"):
            map_file(tmp_path / name, "tokenizer")
    with pytest.raises(FormatError, match="is a folder"):
        map_file(tmp_path, "tokenizer")
    for missing in (tmp_path / "none", tmp_path / "empty" / "inside"):
        with pytest.raises(MissingError, match="there is no file"):
            map_file(missing, "tokenizer")
    with pytest.raises(MissingError, match="must be readable"):
        map_file("nul\0byte", "tokenizer")
