"""Answers on a terminal: no wider than it, coloured only there, all columns where nobody limits them."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamalab.cli import VERBS
from llamalab.cli.output import Answer, Column, Table
from llamalab.cli.terminal import fitted_to_terminal, narrowed
from tests.cli.calls import Capture, printed

ROOT = Path(__file__).resolve().parents[2]


def on_a_terminal(*argv: str, columns: int = 80, **environment: str) -> str:
    """What a command prints to a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "llamalab", *argv], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT,
        env=inherited | {"TERM": "xterm"} | environment,
    )  # fmt: skip
    os.close(theirs)
    shown, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.5)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux tells that the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0, process.stderr.read().decode() if process.stderr else ""
    if process.stderr:
        process.stderr.close()
    return shown.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    for code in ("\033[1m", "\033[2m", "\033[0m"):
        text = text.replace(code, "")
    return text


@pytest.mark.parametrize(
    "argv",
    [
        ("models",),
        ("hardware",),
        ("predict", "--hardware", "all"),
        ("kv",),
        ("flops",),
        ("compare-hardware",),
        ("params",),
    ],
)
def test_tables_fit_into_80_columns(capsys: Capture, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    narrow = printed(capsys, *argv).splitlines()
    assert max(map(len, narrow)) <= 80, max(narrow, key=len)
    wide = printed(capsys, *argv, "-v").splitlines()
    assert max(map(len, wide)) > 80 or len(wide) <= len(narrow)


def test_the_least_important_columns_go_and_it_is_said(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, "models")
    assert "karpathy/llama2.c" not in text
    assert "columns left out for width; -v shows all" in text
    assert "karpathy/llama2.c" in printed(capsys, "models", "-v")
    assert "<- this model" in printed(capsys, "kv")


def test_without_a_terminal_nothing_is_left_out(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert printed(capsys, "models") == printed(capsys, "models", "-v")


def test_a_terminal_gets_its_width_and_colour_unless_nobody_wants_it() -> None:
    coloured = on_a_terminal("models")
    assert "\033[1m" in coloured
    assert max(map(len, plain(coloured).splitlines())) <= 80
    assert "\033" not in on_a_terminal("kv", NO_COLOR="1")
    assert "\033" not in on_a_terminal("kv", TERM="dumb")
    assert "karpathy" in plain(on_a_terminal("models", columns=250))


def test_data_are_never_coloured() -> None:
    assert "\033" not in on_a_terminal("kv", "--format", "json")


def test_ranks_order_what_goes() -> None:
    table = Table(
        (Column("a", "a"), Column("b", "b", rank=1), Column("c", "c", rank=2), Column("d", "d", rank=-1)),
        [{"a": "x" * 10, "b": "y" * 10, "c": "z" * 10, "d": "w" * 10}],
    )
    assert [column.key for column in narrowed(table, 46).columns] == ["a", "b", "c", "d"]
    assert [column.key for column in narrowed(table, 45).columns] == ["a", "b", "d"]
    assert [column.key for column in narrowed(table, 10).columns] == ["a", "d"]


@pytest.mark.parametrize(
    ("argv", "titles"),
    [
        ("hardware", "name bf16 fp8 GB/s GB"),
        ("models", "model parameters layers context"),
        ("compare-hardware", "rank hardware devices run tokens/s"),
        ("plan --model 70b", "rank split TTFT TPOT tokens/s"),
        ("predict --hardware h200-141gb-sxm", "phase operation in all limit"),
        ("predict --hardware l4-24gb,h200-141gb-sxm --batch 1,8", "model hardware batch prefill total tokens/s"),
    ],
)
def test_the_columns_that_answer_stay_at_80(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, argv: str, titles: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first = titles.split()[0]
    heads = next(line for line in printed(capsys, *argv.split()).splitlines() if line.startswith(first + " "))
    assert [title for title in titles.split() if title not in heads] == []


def test_the_last_text_that_stays_is_wrapped_and_not_left_out() -> None:
    rows = [{"a": "x", "b": "a word " * 20, "c": "y" * 40}]
    table = Table((Column("a", "a"), Column("b", "b"), Column("c", "c", rank=1)), rows)
    assert [column.key for column in narrowed(table, 60).columns] == ["a", "b"]


def test_a_name_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = Answer({}, ("red \033[31m",), (Table((Column("x", "x"),), [{"x": "\033[2J"}]),))
    assert "\033" not in fitted_to_terminal(answer)


def test_an_answer_can_be_written_to_a_file(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "kv.json"
    assert printed(capsys, "kv", "--format", "json", "--out", str(path)) == ""
    assert path.read_text() == printed(capsys, "kv", "--format", "json")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_in_both_spellings(capsys: Capture, verb: str) -> None:
    assert printed(capsys, "help", verb) == printed(capsys, verb, "--help")


def test_the_manual_page_has_every_verb(capsys: Capture) -> None:
    page = printed(capsys, "man")
    assert page.startswith(".TH LLAMALAB 1")
    assert all(f".SS llamalab {verb.replace('-', chr(92) + '-')}" in page for verb in VERBS)
    assert not [line for line in page.splitlines() if line.startswith("'")]


def test_the_manual_page_is_set_without_a_warning(capsys: Capture, tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    page = tmp_path / "llamalab.1"
    page.write_text(printed(capsys, "man"))
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-K", "utf-8", str(page)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_path_that_is_not_there_is_said_before_torch_is_loaded() -> None:
    code = (
        "import sys, llamalab.cli\n"
        "for argv in (['inspect', 'nosuch'], ['generate', '--model', 'nosuch'], "
        "['convert', 'nosuch', 'x', '--to', 'hf'],"
        " ['compare', 'nosuch.json'], ['report', '--from', 'nosuch']):\n"
        "    assert llamalab.cli.main(argv) == 3, argv\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
