"""Completion as the shells themselves do it, each driven where it is installed."""

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llamalab.cli import VERBS
from llamalab.cli.completion import SHELLS, script
from llamalab.cli.options_of import every_option, options_of
from llamalab.hardware import HARDWARE
from llamalab.presets import PRESETS

Completed = Callable[[str], set[str]]


def bash(folder: Path) -> Completed:
    def completed(line: str) -> set[str]:
        words = line.split(" ")
        asked = f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); COMP_CWORD={len(words) - 1}; _llamalab llamalab"
        return ran(folder, "bash", "--norc", "-c", f'. ./script; {asked}; printf "%s\\n" "${{COMPREPLY[@]}}"')

    return completed


def fish(folder: Path) -> Completed:
    def completed(line: str) -> set[str]:
        found = ran(folder, "fish", "--no-config", "-c", f"source script; complete -C '{line}'")
        return {one.partition("\t")[0] for one in found}

    return completed


def ran(folder: Path, *command: str) -> set[str]:
    home = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=home, timeout=60)
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


# What zsh offers is seen by compadd alone, and that works in a line editor on a terminal.
ZSH = """
autoload -Uz compinit && compinit -u -D && . ./script
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return; fi
    local -a offered; builtin compadd -A offered "$@"; print -l -- $offered >> offered; builtin compadd "$@"
}
zle -C complete-it complete-word _main_complete
offer() {
    for BUFFER in ${(f)"$(< lines)"}; do CURSOR=$#BUFFER; print -- "> $BUFFER" >> offered; zle complete-it; done
    exit
}
zle -N offer && bindkey '^X' offer && print all is set
"""


def zsh_offers(folder: Path, lines: list[str]) -> dict[str, set[str]]:
    """What zsh offers after each line, all in one of its sessions."""
    (folder / "setup").write_text(ZSH)
    (folder / "lines").write_text("\n".join(lines))
    ours, theirs = pty.openpty()
    home = {"HOME": str(folder), "PATH": os.environ["PATH"], "TERM": "dumb"}
    shell = subprocess.Popen(["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=home)
    os.close(theirs)
    os.write(ours, b". ./setup\n")
    shown, until, asked = b"", time.monotonic() + 60, False
    while shell.poll() is None and time.monotonic() < until:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            shown += os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not asked and b"\nall is set" in shown.replace(b"\r", b""):
            asked = bool(os.write(ours, b"\x18"))
    os.close(ours)
    shell.kill()
    shell.wait()
    parts = (folder / "offered").read_text().split("> ")[1:]
    return {part.partition("\n")[0]: set(part.splitlines()[1:]) - {""} for part in parts}


CASES = {
    "llamalab comp": {"compare", "compare-hardware", "completion"},
    "llamalab kv --cont": {"--context"},
    "llamalab kv --batch 4 --cont": {"--context"},
    "llamalab kv --dtype b": {"bf16"},
    "llamalab predict --hardware h2": {"h200-141gb-sxm"},
    "llamalab bench -m 13": {"13b"},
    "llamalab kv --model 70": {"70b", "70-mine.json"},
    "llamalab inspect --model 70": {"70-mine.json"},
    "llamalab inspect 70": {"70-mine.json"},
    "llamalab compare 70": {"70-mine.json"},
    "llamalab diff-arch 7b 70": {"70b", "70-mine.json"},
    "llamalab hardware h2": {"h200-141gb-sxm"},
    "llamalab completion ": set(SHELLS),
    "llamalab tokenizer tr": {"train"},
    "llamalab help pre": {"predict"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file whose name begins as presets do."""
    (tmp_path / "70-mine.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_verbs_options_words_and_files(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (folder / "script").write_text(script(shell))
    assert subprocess.run([shell, "-n", "script"], capture_output=True, cwd=folder).stderr == b""
    if shell == "zsh":
        offered = zsh_offers(folder, list(CASES))
    else:
        completed = {"bash": bash, "fish": fish}[shell](folder)
        offered = {line: completed(line) for line in CASES}
    assert offered == CASES


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_verb_and_option(shell: str) -> None:
    text = script(shell)
    options = {name for found in every_option().values() for one in found for name in one.names if name[:2] == "--"}
    assert [verb for verb in VERBS if verb not in text] == []
    assert [name for name in options if (name[2:] if shell == "fish" else name) not in text] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_the_words_of_every_option(shell: str) -> None:
    """Where the shell itself is not there to ask."""
    text = script(shell)
    words = {" ".join(one.words) for verb in VERBS for one in options_of(verb) if one.words}
    assert [one for one in (*words, " ".join(PRESETS), " ".join(HARDWARE)) if one not in text] == []
