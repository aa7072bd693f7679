"""What is at the end of a path may be anything: it is refused in a sentence, never waited for, never held whole."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from llamalab.errors import FormatError, LlamaLabError, MissingError
from llamalab.files.inputs import parse_json, read_bounded_text, read_object


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


KINDS: list[tuple[Callable[[Path], object], type[LlamaLabError], str]] = [
    (lambda path: os.mkfifo(path), FormatError, "is a pipe"),
    (lambda path: path.symlink_to("/dev/zero"), FormatError, "is a device"),
    (lambda path: path.symlink_to("/dev/tty"), FormatError, "is a device"),
    (a_socket, FormatError, "is a socket"),
    (lambda path: path.mkdir(), FormatError, "is a folder"),
    (lambda path: path.symlink_to("nowhere"), MissingError, "must exist"),
    (lambda path: path.symlink_to(path.name), MissingError, "must be readable"),
    (lambda path: path.write_bytes(b"caf\xe9"), FormatError, "must be UTF-8; .*at byte 3"),
    (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), FormatError, "is a Git LFS pointer"),
    (lambda path: path.write_bytes("{}".encode("utf-16")), FormatError, "is UTF-16; save it as UTF-8"),
    (lambda path: path.write_bytes("{}".encode("utf-32-be")), FormatError, "JSON"),
    (lambda path: (path.touch(), os.truncate(path, 2**40)), FormatError, "at most 4,194,304 bytes"),
    (lambda path: path.write_text("[]"), FormatError, "must hold a JSON object; got list"),
    (lambda path: path.write_text(""), FormatError, "JSON"),
]


@pytest.mark.parametrize(("make", "kind", "sentence"), KINDS)
def test_what_is_no_json_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], kind: type[LlamaLabError], sentence: str
) -> None:
    path = tmp_path / "x.json"
    make(path)
    with pytest.raises(kind, match=sentence) as caught:
        read_object(path, "file")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("path", ["a\0b.json", "\ud800.json", "x" * 5000, "file.txt/below", ""])
def test_a_path_that_no_file_has(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("")
    with pytest.raises(MissingError, match="the file must "):
        read_bounded_text(path, "file")


def test_a_file_that_tells_no_size_is_bounded() -> None:
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("no /proc here")
    assert os.stat("/proc/cpuinfo").st_size == 0
    assert read_bounded_text("/proc/cpuinfo", "file")
    with pytest.raises(FormatError, match="at most 8 bytes"):
        read_bounded_text("/proc/cpuinfo", "file", most=8)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the opening anything can happen."""
    regular, pipe = tmp_path / "file", tmp_path / "pipe"
    regular.write_text("{}")
    os.mkfifo(pipe)
    real = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, *more, **named: real(regular if path == str(pipe) else path, *more, **named)
    )
    with pytest.raises(FormatError, match="is a pipe"):
        read_bounded_text(pipe, "file")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": "é"}', encoding="utf-8-sig")
    assert read_object(path, "file") == {"a": "é"}
    assert parse_json('\ufeff{"a": 1}', "it") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 1}', "key twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "key twice"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e309]", "larger than any double"),
        ("[-1" + "0" * 400 + "]", "larger than any double"),
        ("[" + "9" * 5000 + "]", "larger than any double"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ("[" * 66 + "]" * 66, "nested deeper than 64"),
        ("[" * 10**5, "JSON"),
        ('{"a":' * 10**5, "JSON"),
        ("{'a': 1}", "JSON"),
        ("[1,]", "JSON"),
    ],
)
def test_json_that_readers_disagree_about_is_refused(text: str, why: str) -> None:
    with pytest.raises(FormatError, match=why) as caught:
        parse_json(text, "it")
    assert len(str(caught.value)) < 300


def test_what_json_allows_passes() -> None:
    value = {"a": [1, -2.5e-7, 10**300, 1e308, True, None, "\U0001f600\x1b"], "b": {"c": {}}}
    assert parse_json(json.dumps(value), "it") == value
