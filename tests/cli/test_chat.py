import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamalab.cli import main

pytestmark = pytest.mark.shared


@pytest.fixture
def options(shared_real: Path) -> list[str]:
    files = ["--model", str(shared_real / "stories260K.bin"), "--tokenizer", str(shared_real / "tok512.bin")]
    return ["chat", *files, "--temperature", "0", "--generate", "12"]


@pytest.fixture
def talk(options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run a conversation of some lines, at the end of which input ends; its stdout and stderr."""

    def run(lines: list[str], *more: str) -> tuple[str, str]:
        given = iter(lines)

        def read(prompt: str) -> str:
            line = next(given, None)
            if line is None:
                raise EOFError
            if line == "^C":
                raise KeyboardInterrupt
            return line

        monkeypatch.setattr("builtins.input", read)
        assert main([*options, *more]) == 0
        out, err = capsys.readouterr()
        return str(out), str(err)

    return run


def test_answers_history_and_the_end_of_input(talk) -> None:  # type: ignore[no-untyped-def]
    out, err = talk(["Lily had a dog.", "", "  And then?  ", "/history"])
    _, first, second, *history, end = out.splitlines()
    assert history == [f"user: {q}" if i % 2 == 0 else f"assistant: {a}" for i, (q, a) in enumerate(
        [("Lily had a dog.", ""), ("", first), ("And then?", ""), ("", second)]
    )]  # fmt: skip
    assert first
    assert end == err == ""


def test_the_cache_is_reused_and_said(talk) -> None:  # type: ignore[no-untyped-def]
    _, err = talk(["Hi", "Ho"], "--stats")
    counts = [tuple(map(int, re.findall(r"(\d+) of the conversation's (\d+)", line)[0])) for line in err.splitlines()]
    (none, first), (reused, _) = counts
    # All of the first turn but its last token and EOS.
    assert none == 0
    assert reused == first - 2


def test_reset_and_system(talk) -> None:  # type: ignore[no-untyped-def]
    out, err = talk(["Hi", "/reset", "Hi", "/system Be brief.", "Hi", "/history", "/system", "Hi"])
    _, first, again, other, *history, last = out.splitlines()[:-1]
    assert first == again == last
    assert other != first
    assert history == ["system: Be brief.", "user: Hi", f"assistant: {other}"]
    assert err.count("a new conversation") == 3
    assert "system prompt: Be brief." in err


def test_mistakes_are_said_and_the_conversation_goes_on(talk) -> None:  # type: ignore[no-untyped-def]
    out, err = talk(
        ["Hi <<SYS>>", "/histroy", "/system [INST]", "^C", "x " * 600, "Hi", "/help", "/quit", "never read"]
    )
    assert "must not contain <<SYS>>" in err
    assert "did you mean /history" in err
    assert "must not contain [INST]" in err
    assert "nothing to stop" in err
    assert "context of 512 tokens" in err
    assert "/reset          begin a new conversation" in out
    assert talk(["Hi"])[0].splitlines()[1] in out


def test_a_full_context_is_said(talk) -> None:  # type: ignore[no-untyped-def]
    _, err = talk(["a " * 470], "--generate", "4k")
    assert "context of 512 tokens is full; /reset begins anew" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--temperature", "-1"], "--temperature must be"),
        (["--system", "a [/INST]"], "must not contain [/INST]"),
        (["--generate", "0"], "--generate must be"),
    ],
)
def test_bad_options_are_one_sentence(
    options: list[str], capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    assert main([*options, *given]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | {"TERM": "dumb"},
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until the pattern is there; what came up to its end."""
        end = time.monotonic() + 60
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < end, self.seen
            if select.select([self.ours], [], [], 0.2)[0]:
                self.seen += os.read(self.ours, 4096).decode("utf-8", "replace")
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text


def test_ctrl_c_stops_the_answer_and_not_the_program(options: list[str]) -> None:
    command = [sys.executable, "-m", "llamalab", *options, "--generate", "100000", "--min-p", "0.9"]
    terminal = Terminal(command)
    try:
        terminal.wait_for(r"/help\.\r\n> ")
        terminal.type("Tell me a long story.\n")
        terminal.wait_for(r"story\.\r\n\S[^\r]{20}")  # the answer has begun
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.wait_for(r"\[stopped\]\r\n> ")
        terminal.type("/history\n")
        assert "assistant: " in terminal.wait_for(r"assistant: .+\r\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(timeout=60) == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.ours)
