"""Whatever the system does to a command, it ends in one sentence and its exit code: every verb, as a process."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llamalab.cli import VERBS, main, streams, system
from tests.cli.calls import Capture, refused

COMMAND = [sys.executable, "-m", "llamalab"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# As a pipe of a shell: nobody sets PYTHONUNBUFFERED for a user.
PLAIN = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "PYTHONIOENCODING")}


def shell(line: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run `llamalab` with arguments and what a shell would add; `"$@"` in the line is the command."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND, *arguments], capture_output=True, timeout=120, env=PLAIN | environment
    )


@pytest.mark.parametrize("verb", [*VERBS, "--help", "--version"])
def test_an_answer_that_nobody_takes_is_told_and_counts(verb: str) -> None:
    arguments = (verb,) if verb.startswith("-") else (verb, "--help")
    for lost, unbuffered in ((">&-", ""), (">/dev/full", "1")):
        check_lost(shell(f'"$@" {lost}', *arguments, PYTHONUNBUFFERED=unbuffered))


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lost", [">&-", ">/dev/full", "<&- >&-"])
def test_a_lost_answer_is_told_however_it_was_lost(lost: str, unbuffered: str) -> None:
    check_lost(shell(f'"$@" {lost}', "kv", PYTHONUNBUFFERED=unbuffered))


def check_lost(ended: "subprocess.CompletedProcess[bytes]") -> None:
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr.count(b"\n") == 1
    assert ended.stderr.startswith(b"llamalab: ")


@pytest.mark.parametrize("verb", VERBS)
def test_notes_that_nobody_takes_change_nothing(verb: str) -> None:
    refusal = shell('"$@" 2>&-', verb, "--no-such-option")
    assert (refusal.returncode, refusal.stdout, refusal.stderr) == (2, b"", b"")


@pytest.mark.parametrize("lost", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_an_answer_stays_though_its_notes_are_lost(lost: str) -> None:
    ended = shell(f'"$@" {lost}', "kv", "--context", "8k")  # which has a note
    assert ended.returncode == 0
    assert ended.stdout == shell('"$@"', "kv", "--context", "8k").stdout


@pytest.mark.parametrize("verb", ["kv", "predict"])
@pytest.mark.parametrize("environment", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "ascii:strict"}])
def test_a_terminal_without_utf_8_gets_question_marks(verb: str, environment: dict[str, str]) -> None:
    ended = shell('"$@"', verb, **environment)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"?" in ended.stdout


def test_all_three_streams_closed() -> None:
    assert shell('"$@" <&- >&- 2>&-', "kv").returncode == 3


@pytest.mark.parametrize(("error", "words"), [
    (OSError(28, "No space left on device", "/x"), "/x: No space left on device; free some room"),
    (OSError(27, "File too large"), "File too large; raise the limit of the size of files"),
    (OSError(24, "Too many open files", "/x"), "Too many open files; raise the limit of open files"),
    (OSError(36, "File name too long", "/x"), "choose a shorter name"),
    (OSError(40, "Too many levels of symbolic links", "/x"), "name the file"),
    (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied; check the path"),
    (OSError("300 requested and 12 written"), "300 requested and 12 written"),
    (MemoryError(), "MemoryError; free some"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
                  "you tried to allocate 4 bytes.\nmore"), "DefaultCPUAllocator: can't allocate memory"),
    (RuntimeError("can't start new thread"), "raise ulimit -u"),
    (RecursionError("maximum recursion depth exceeded"), "nested less deeply"),
    (UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range(128)"), "set PYTHONUTF8=1"),
])  # fmt: skip
def test_what_the_system_says_is_one_sentence(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr("llamalab.cli.kv.answer", run)
    assert words in refused(capsys, "kv", code=3)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("gemm"), ValueError("x"), TypeError("x")])
def test_a_defect_of_ours_stays_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(_: object) -> int:
        raise error

    assert system.sentence_of(error) is None
    monkeypatch.setattr("llamalab.cli.kv.answer", run)
    with pytest.raises(type(error)):
        main(["kv"])


SLOW = """
import sys, time
from llamalab.cli import kv, main
from llamalab.files.workspace import workspace
from pathlib import Path
def run(_):
    with workspace(Path(sys.argv[1])) as place:
        (place / "half").touch()
        print("ready", flush=True)
        time.sleep(60)
kv.answer = run
sys.exit(main(["kv"]))
"""


def ended_by(folder: Path, *numbers: int, **options: Any) -> tuple[int, str]:
    """Exit code and stderr of a command that is writing into `folder` when the signals come."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["INT", "TERM", "HUP"]
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_cleans_up_though_it_comes_again(tmp_path: Path, number: int, code: int, times: int) -> None:
    ended, said = ended_by(tmp_path, *[number] * times)
    assert (ended, list(tmp_path.iterdir())) == (code, []), said
    assert "Traceback" not in said


def test_what_ignores_a_hangup_goes_on() -> None:
    code = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); from llamalab.cli import main, kv\n"
    code += "kv.run = lambda _: signal.raise_signal(signal.SIGHUP) or 0\nsys.exit(main(['kv']))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_handlers_are_as_they_were_after_a_command(capsys: Capture) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main(["models"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("after_s", [0.25, 0.3, 0.8])
def test_ctrl_c_while_torch_is_imported(after_s: float) -> None:
    code = "import sys; from llamalab.cli import kv, main\ndef run(_):\n print(1, flush=True); import torch; "
    code += "import time; time.sleep(60)\nkv.answer = run\nsys.exit(main(['kv']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (130, "llamalab: interrupted\n")


@pytest.mark.parametrize(
    ("form", "limit"),
    [("hf", 300), ("hf", 300_000), ("meta", 300_000), ("llama2c", 300_000), ("gguf", 300_000), ("onnx", 2_000)],
)
def test_a_full_disk_ends_a_conversion_in_one_sentence_and_leaves_nothing(
    capsys: Capture, shared_real: Path, tmp_path: Path, form: str, limit: int
) -> None:
    pytest.importorskip("onnxscript" if form == "onnx" else "torch")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        sentence = refused(
            capsys, "convert", str(shared_real / "stories260K.bin"), str(tmp_path / "out"), "--to", form, code=3
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large; " in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["inspect", "generate", "chat"])
def test_a_path_is_looked_at_before_torch_is_imported(verb: str) -> None:
    options = ["nosuch"] if verb == "inspect" else ["--model", "nosuch"]
    code = f"import sys; from llamalab.cli import main; code = main({[verb, *options]!r})\n"
    code += "sys.exit(99 if 'torch' in sys.modules else code)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3
    assert ended.stderr == "llamalab: the checkpoint must exist; there is no nosuch; check the path\n"


def test_a_backend_that_matplotlib_does_not_know_costs_nothing(tmp_path: Path) -> None:
    ended = shell('"$@"', "roofline", "--svg", str(tmp_path / "r.svg"), MPLBACKEND="no-such-backend")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "r.svg").stat().st_size > 1_000


def test_a_known_backend_is_left_to_others() -> None:
    code = "import os; from llamalab.startup.plotting import import_matplotlib as given; m = given(); "
    code += "assert (m.rcParams['backend'], os.environ['MPLBACKEND']) == ('pdf', 'pdf')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=PLAIN | {"MPLBACKEND": "pdf"})


def test_streams_that_are_no_files_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    streams.prepare()
    assert (sys.stdout, sys.stderr) == (out, err)
