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

from llamalab.checkpoints.pages import settled
from llamalab.checkpoints.torch_file import LEGACY, check_torch, read_torch_file
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
    with pytest.raises(FormatError, match="lies whole in its storage"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "dictionary of tensors by name; got list"),
        ({1: torch.ones(2)}, "dictionary of tensors by name; got dict"),
        ({"a": 3}, "'a' .* must be a tensor"),
        ({"a": torch.ones(1).expand(9)}, "'a' .* must be a tensor"),
        ({"a": torch.ones(10).as_strided((4, 4), (2, 1))}, "'a' .* must be a tensor"),
        ({"a": {"b": torch.ones(2)}}, "'a' .* must be a tensor"),
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


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_in_any_order_in_their_storage(path: Path, zipped: bool) -> None:
    one = torch.arange(60.0)
    state = {
        "t": torch.arange(6.0).view(2, 3).t(), "view": one[5:11].view(2, 3), "columns": one.view(6, 10)[:, 2:4],
        "p": one.view(3, 4, 5).permute(2, 0, 1), "empty": torch.empty(0, 3), "one": torch.tensor(4.0),
        "half": torch.arange(3).half(), "b": torch.arange(4).bfloat16(), "n": torch.arange(4), "f": torch.ones(2) > 0,
    }  # fmt: skip
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = read_torch_file(path)
    torch.testing.assert_close(found, state, rtol=0, atol=0)
    assert found["t"].stride() == (1, 3)


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


def legacy(path: Path, value: Any) -> bytes:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


def test_the_format_before_archives(path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    data = legacy(path, module.state_dict())
    torch.testing.assert_close(read_torch_file(path), dict(module.state_dict()), rtol=0, atol=0)
    read_torch_file(path)["bias"].fill_(3.0)  # mapped, and copied on writing
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x03K\x02\x86", b"J\x00\x00\x00\x40K\x02\x86"),
        (b"K\x06N", b"J\x00\x00\x00\x40N"),
        (b"K\x03K\x02\x86", b"J\xff\xff\xff\xffK\x02\x86"),
        (b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        (b"M\xe9\x03.", b"M\xe8\x03."),
        (b"ctorch\nFloatStorage", b"ctorch\nHalfStorage"),
        (b"\x06\0\0\0\0\0\0\0", b"\xff" * 8),
        (b"\x06\0\0\0\0\0\0\0", b"\0" * 8),
    ],
)
def test_old_files_that_lie(path: Path, old: bytes, new: bytes) -> None:
    data = legacy(path, {"a": torch.ones(3, 2)})
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(FormatError):
        read_torch_file(path)


def test_an_old_file_cut_short(path: Path) -> None:
    data = legacy(path, {"a": torch.ones(300, 2)})
    for size in (15, 20, 60, 400, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError):
            read_torch_file(path)


def test_no_call_is_made_by_an_old_file(path: Path) -> None:
    witness = path.parent / "witness"
    data = legacy(path, {"a": torch.ones(2)})
    at = data.index(b"\x80", len(LEGACY))
    for parts in range(4):  # in place of the pickle that comes next
        for what in (pickle.dumps(Call(os.mkdir, str(witness)), 2), pickle.dumps(Call(bytearray, 2**34), 2)):
            path.write_bytes(data[:at] + what + data[at:])
            with pytest.raises(FormatError, match="refused"):
                read_torch_file(path)
        if parts < 3:
            at = data.index(b".\x80", at) + 1
    assert not witness.exists()


def test_an_old_file_is_not_read_before_it_is_needed(path: Path) -> None:
    data = legacy(path, {"a": torch.arange(5000).half(), "b": torch.arange(7).float(), "c": torch.arange(9).double()})
    found = read_torch_file(path)
    places = [tensor.data_ptr() for tensor in found.values()]
    assert max(places) - min(places) < len(data)  # mapped, whatever the alignment
    for name, tensor in found.items():
        made = settled(tensor, dtype=None, device=None)
        assert made.data_ptr() % made.element_size() == 0, name
        assert torch.equal(made, read_torch_file(path)[name])
