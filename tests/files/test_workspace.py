"""Unfinished outputs: none is seen, none is left, and writers of one folder take turns."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llamalab.errors import InputError, MissingError
from llamalab.files.outputs import check_target, check_targets, keep_text, new_outputs, write_texts
from llamalab.files.workspace import PREFIX, SUFFIX, put_in_place, undisturbed, workspace

HOLD = "import sys, time; from pathlib import Path; from llamalab.files.workspace import workspace\n"
WRITER = """
import sys; from pathlib import Path; from llamalab.files.outputs import write_texts
paths = [Path(sys.argv[1]) / f"{n}.txt" for n in range(8)]
for _ in range(40):
    write_texts(dict.fromkeys(paths, sys.argv[2] * 50_000), ours=dict.fromkeys(paths))
"""


def started(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_killed_process_left_goes_with_the_next_write_and_nothing_else_does(
    tmp_path: Path, killed: bool
) -> None:
    code = HOLD + f"with workspace(Path({str(tmp_path)!r})) as place:\n (place / 'x').touch(); print(place, flush=True)"
    process = started(code + "\n time.sleep(60)")
    try:
        place = Path(line_of(process).strip())
        mine = tmp_path / f"{PREFIX}mine"
        mine.mkdir()
        (tmp_path / f"{PREFIX}link{SUFFIX}").symlink_to(mine)
        if killed:
            process.send_signal(signal.SIGKILL)
            process.wait()
        with workspace(tmp_path):
            assert (place / "x").exists() == (not killed)
        assert mine.exists()
    finally:
        process.kill()
        process.communicate()


def test_files_that_belong_together_come_from_one_writer(tmp_path: Path) -> None:
    writers = [started(WRITER, str(tmp_path), letter) for letter in "ab"]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    assert len({path.read_text() for path in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 8


def test_a_file_is_written_into_a_workspace_without_waiting_for_its_own_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waited(seconds: float) -> None:
        raise AssertionError(seconds)

    monkeypatch.setattr("llamalab.files.workspace.time.sleep", waited)
    with new_outputs([tmp_path / "a.txt"]) as place:
        write_texts({place / "a.txt": "made"}, ours={place / "a.txt": None})
    assert (tmp_path / "a.txt").read_text() == "made"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_a_set_is_renamed_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    paths = [tmp_path / name for name in "abcd"]
    for path in paths[:2]:
        path.write_text("old")
    replace = os.replace

    def fails_at_c(aside: Path, target: Path) -> None:
        if Path(target).name == "c":
            raise error
        replace(aside, target)

    monkeypatch.setattr(os, "replace", fails_at_c)
    with pytest.raises(error):
        write_texts(dict.fromkeys(paths, "new"), ours=dict.fromkeys(paths))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_a_folder_where_a_file_should_go_stops_the_set(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with workspace(tmp_path) as place:
        for name in "ab":
            (place / name).write_text("new")
        with pytest.raises(OSError, match="b"):
            put_in_place(place, [tmp_path / "a", tmp_path / "b"])
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_signal_waits_until_a_short_step_is_over() -> None:
    done = []

    def step() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_library_sets_no_handler_of_its_own(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with workspace(tmp_path):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize(("name", "error", "words"), [
    ("n" * 256, InputError, "possible name"),
    (f"folder/{'n' * 256}/x", InputError, "possible name"),
    ("loop/x", InputError, "possible name"),
    ("file/x", MissingError, "must be writable"),
    ("pipe", InputError, "is a device or a pipe"),
    ("nul\0byte", InputError, "possible name"),
])  # fmt: skip
def test_a_name_that_cannot_be_written_is_told_before_work(
    tmp_path: Path, name: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error, match=words):
        check_target(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop", "pipe"]


def test_a_check_leaves_nothing_behind_and_refuses_no_name_that_can_be(tmp_path: Path) -> None:
    check_targets({tmp_path / "new" / "folder" / ("n" * 255): None, tmp_path / "x": None})
    assert os.listdir(tmp_path) == []


def test_a_new_output_never_replaces_what_came_meanwhile(tmp_path: Path) -> None:
    def race() -> None:
        with new_outputs([tmp_path / "x"]) as place:
            (place / "x").write_text("ours")
            (tmp_path / "x").write_text("theirs")

    with pytest.raises(InputError, match="must be new"):
        race()
    assert (tmp_path / "x").read_text() == "theirs"


def test_what_cannot_be_made_again_is_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert keep_text(tmp_path / "a.json", "1") == tmp_path / "a.json"
    kept = keep_text(tmp_path / "file" / "a.json", "2")
    assert kept.read_text() == "2"
    assert kept.suffix == ".json"
