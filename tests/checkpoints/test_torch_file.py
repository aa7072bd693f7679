"""Archives of torch.save that mean harm: nothing in them runs, and none takes more memory than it is."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.checkpoints.torch_file import check_torch, read_torch_file
from llamalab.errors import FormatError, MissingError

STRUCTURE = {"version": b"3\n", "byteorder": b"little"}


class Call:
    """Pickled, it is a call of `function` at the time of loading."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.what


def archive(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in (STRUCTURE | others).items():
            file.writestr(f"archive/{name}", content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "consolidated.00.pth"


@pytest.mark.parametrize("function", [os.system, os.mkdir, exec, eval, open, bytearray, __import__, getattr])
@pytest.mark.parametrize("protocol", [2, 4])
def test_no_call_is_made(path: Path, function: Callable[..., Any], protocol: int) -> None:
    witness = path.parent / "witness"
    argument = 10**12 if function is bytearray else str(witness)
    archive(path, pickle.dumps({"a": Call(function, argument)}, protocol))
    with pytest.raises(FormatError, match="is refused"):
        read_torch_file(path)
    assert not witness.exists()


def test_the_same_call_does_run_where_nothing_protects(path: Path) -> None:
    witness = path.parent / "witness"
    pickle.loads(pickle.dumps(Call(os.mkdir, str(witness)), 2))
    assert witness.exists()


def test_pairs_of_pairs_are_refused_at_once(path: Path) -> None:
    # The pair before, 64 times: hashed as a key this takes 2**64 steps.
    data = b"\x80\x02}K\x01K\x02\x86q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(64)) + b"K\x01s."
    archive(path, data)
    with pytest.raises(FormatError, match="built as torch builds it"):
        read_torch_file(path)


def test_a_zip_bomb_is_not_unpacked(path: Path) -> None:
    archive(path, bytes(2**26), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    with pytest.raises(FormatError, match="must store its members as they are"):
        read_torch_file(path)


def test_two_members_of_one_name(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"N.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("archive/data.pkl", pickle.dumps(Call(os.mkdir, "x"), 2))
    with pytest.raises(FormatError, match="two members of one name"):
        read_torch_file(path)


def test_a_second_directory_in_a_comment(path: Path) -> None:
    torch.save({"a": torch.ones(2)}, path)
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"PK"
    with pytest.raises(FormatError, match="must have at most"):
        read_torch_file(path)


def _patched(path: Path, old: bytes, new: bytes) -> None:
    """Change the pickle in a file of torch.save."""
    with zipfile.ZipFile(path) as file:
        members = {member.filename: file.read(member) for member in file.infolist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    assert old in members[name]
    members[name] = members[name].replace(old, new, 1)
    with zipfile.ZipFile(path, "w") as file:
        for member, content in members.items():
            file.writestr(member, content)


@pytest.mark.parametrize("size", [b"J\x00\x00\x00\x40", b"\x8a\x05\x00\x00\x00\x00\x01", b"J\xff\xff\xff\xff"])
def test_sizes_beyond_the_storage(path: Path, size: bytes) -> None:
    torch.save({"a": torch.ones(3, 2)}, path)
    _patched(path, b"K\x03K\x02\x86", size + b"K\x02\x86")
    with pytest.raises(FormatError):
        read_torch_file(path)


def test_strides_that_repeat_a_value(path: Path) -> None:
    torch.save({"a": torch.ones(3, 2)}, path)
    # (2**20, 2**20) elements of strides (0, 0), all the same four bytes.
    _patched(path, b"K\x03K\x02\x86", b"J\x00\x00\x10\x00J\x00\x00\x10\x00\x86")
    _patched(path, b"K\x02K\x01\x86", b"K\x00K\x00\x86")
    with pytest.raises(FormatError, match="contiguous"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "dictionary of tensors by name; got list"),
        ({1: torch.ones(2)}, "dictionary of tensors by name; got dict"),
        ({"a": 3}, "'a' .* contiguous tensor"),
        ({"a": torch.ones(3, 2).t()}, "'a' .* contiguous tensor"),
        ({"a": {"b": torch.ones(2)}}, "'a' .* contiguous tensor"),
    ],
)
def test_what_is_no_state_dict(path: Path, value: Any, message: str) -> None:
    torch.save(value, path)
    with pytest.raises(FormatError, match=message):
        read_torch_file(path)


def test_one_storage_many_times(path: Path) -> None:
    one = torch.ones(1000)
    torch.save({str(index): one for index in range(100)}, path)
    with pytest.raises(FormatError, match="must be in it; they are 400,000 bytes"):
        read_torch_file(path)


def test_the_format_before_archives(path: Path) -> None:
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(FormatError, match="sound zip archive"):
        read_torch_file(path)


def test_a_directory_that_lies_about_sizes(path: Path) -> None:
    torch.save({"a": torch.ones(2)}, path)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    with pytest.raises(FormatError):
        read_torch_file(path)


def test_sound_files_of_every_make(path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    expected = {"weight": module.weight.detach(), "bias": module.bias.detach()}
    for value in (module.state_dict(), dict(module.named_parameters())):
        torch.save(value, path)
        torch.testing.assert_close(dict(sorted(read_torch_file(path).items(), reverse=True)), expected)
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)[1:], "b": torch.ones(2, dtype=torch.float64)}, buffer, pickle_protocol=2)
    path.write_bytes(buffer.getvalue())
    assert read_torch_file(path)["a"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("version", ["2.9.1", "2.9.1+cu128", "1.13.0", "2.2.0a0+git"])
def test_an_old_torch_is_refused(version: str) -> None:
    with pytest.raises(MissingError, match=r"torch 2\.10 or newer"):
        check_torch(version)


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0", "2.11.0.dev20260101"])
def test_a_new_torch_is_not(version: str) -> None:
    check_torch(version)
