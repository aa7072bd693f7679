"""Answers on a terminal: no wider than it, coloured only there, all columns where nobody limits them."""

import os
import pty
import re
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
    assert "columns do not fit; -v shows them" in text
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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_has_every_verb_and_option(capsys: Capture, shell: str) -> None:
    from llamalab.cli.options_of import every_option

    script = printed(capsys, "completion", shell)
    options = {name for found in every_option().values() for one in found for name in one.names if name[:2] == "--"}
    assert all(verb in script for verb in VERBS)
    assert all((option[2:] if shell == "fish" else option) in script for option in options)


def test_bash_completes_verbs_options_and_words(capsys: Capture, tmp_path: Path) -> None:
    script = tmp_path / "llamalab.bash"
    script.write_text(printed(capsys, "completion", "bash"))

    def completed(*words: str) -> list[str]:
        line = f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _llamalab; "
        done = subprocess.run(
            ["bash", "-c", f'{line}printf "%s\\n" "${{COMPREPLY[@]}}"'],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        return done.stdout.split()

    assert completed("llamalab", "comp") == ["compare-hardware", "compare", "completion"]
    assert completed("llamalab", "kv", "--con") == ["--context"]
    assert completed("llamalab", "kv", "--dtype", "b") == ["bf16"]
    assert set(completed("llamalab", "predict", "--hardware", "h2")) == {"h200-141gb-sxm"}


def test_bash_takes_a_file_where_an_option_does(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    script = tmp_path / "llamalab.bash"
    script.write_text(printed(capsys, "completion", "bash"))
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    line = f"source {script}; COMP_WORDS=(llamalab kv --model mi); COMP_CWORD=3; _llamalab; "
    done = subprocess.run(
        ["bash", "-c", f'{line}printf "%s\\n" "${{COMPREPLY[@]}}"'], capture_output=True, text=True, cwd=tmp_path
    )
    assert "mine.json" in done.stdout.split()
    assert any(word.startswith("mistral-") for word in done.stdout.split())


ZSH_OPTION = (
    r"'(--[a-z-]+)(=?)\[[^\[\]:']+\](?::value:(_files|\([^()']+\)|\{_alternative \"[^'\"]+\" \"[^'\"]+\"\}| ))?'"
)


@pytest.mark.parametrize("verb", VERBS)
def test_zsh_knows_which_options_take_a_value(capsys: Capture, verb: str) -> None:
    """The specifications that _arguments reads, each as its manual has it: a flag, or a value and its action."""
    from llamalab.cli.options_of import options_of

    (line,) = re.findall(
        rf"^        {verb}\) _arguments (.*) '\*:file:_files';;$", printed(capsys, "completion", "zsh"), re.M
    )
    told = {name: (bool(equals), action) for name, equals, action in re.findall(ZSH_OPTION, line)}
    assert re.sub(ZSH_OPTION, "", line).strip() == ""
    for option in options_of(verb):
        for name in option.names:
            if name.startswith("--"):
                assert told[name][0] is bool(told[name][1]) is option.takes_value, name
                assert all(word in told[name][1] for word in option.words)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_shell_itself_reads_its_script(capsys: Capture, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    script = tmp_path / "script"
    script.write_text(printed(capsys, "completion", shell))
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_fish_has_a_line_for_each_option_in_its_own_words(capsys: Capture) -> None:
    lines = printed(capsys, "completion", "fish").splitlines()
    form = (
        r"complete -c llamalab -n (?:__fish_use_subcommand -f -a [a-z-]+"
        r"|'__fish_seen_subcommand_from [a-z-]+' -l [a-z0-9-]+(?: -r| -r -f)?(?: -a '[^']+')?) -d '[^']+'"
    )
    assert [line for line in lines if not re.fullmatch(form, line)] == []
    of_kv = [line for line in lines if "from kv' -l" in line]
    assert any(" -l context -r -f -d " in line for line in of_kv)
    assert any(" -l model -r -a '7b " in line for line in of_kv)
    assert any(" -l verbose -d " in line for line in of_kv)


def test_the_manual_page_has_every_verb(capsys: Capture) -> None:
    page = printed(capsys, "man")
    assert page.startswith(".TH LLAMALAB 1")
    assert all(f".SS llamalab {verb.replace('-', chr(92) + '-')}" in page for verb in VERBS)
    assert not [line for line in page.splitlines() if line.startswith("'")]


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
