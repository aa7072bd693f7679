"""A full disk, a reader that blocks, a signal: a command ends in one sentence and leaves nothing half-written.

Whole commands in processes of their own; how the parts do it is tested beside them.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamalab.records.record_json import record_to_json
from tests.report.sample import sample_record

COMMAND = [sys.executable, "-m", "llamalab"]
ROOT = str(Path(__file__).resolve().parents[2])
PATIENCE_S = 100.0


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "record.json"
    path.write_text(record_to_json(sample_record("tiny")), encoding="utf-8")
    return path


def run(*arguments: str, cwd: Path, file_bytes: int | None = None, out: object = subprocess.PIPE):
    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, stdout=out, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S,
        preexec_fn=limit, env=os.environ | {"PYTHONPATH": ROOT},
    )  # fmt: skip


def one_sentence(ended: "subprocess.CompletedProcess[str]", *codes: int) -> str:
    assert ended.returncode in codes, ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("llamalab: ")]
    assert len(said) == 1, ended.stderr
    return said[0]


@pytest.mark.parametrize("file_bytes", [0, 4096, 40_000])
def test_a_limit_of_file_sizes_leaves_no_half_report(record: Path, tmp_path: Path, file_bytes: int) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    one_sentence(run("report", "--from", str(record), "--out", "page.html", cwd=folder, file_bytes=file_bytes), 2, 3)
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.parametrize("arguments", [("kv", "--context", "4096"), ("params",), ("report", "--from", "{record}")])
def test_a_full_device_is_one_sentence(record: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    given = [argument.format(record=record) for argument in arguments]
    with open("/dev/full", "w") as full:
        one_sentence(run(*given, cwd=tmp_path, out=full), 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("kv", "--model", "{fifo}.json"), ("params", "--model", "{fifo}.json"), ("report", "--from", "{fifo}"),
        ("predict", "--hardware", "h200", "--basis", "calibrated", "--constants", "{fifo}"), ("inspect", "{fifo}"),
        ("tokenizer", "train", "{fifo}", "--out", "t.model"), ("generate", "--model", "{fifo}"),
        ("convert", "{fifo}", "out", "--to", "gguf"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_fifo_that_nobody_writes_to_blocks_no_reader(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    fifo = tmp_path / "pipe"
    for name in (fifo, Path(f"{fifo}.json")):
        os.mkfifo(name)
    one_sentence(run(*(argument.format(fifo=fifo) for argument in arguments), cwd=tmp_path), 2, 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=["TERM", "HUP", "INT"])
def test_a_signal_at_a_line_of_progress_ends_a_report_cleanly(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [*COMMAND, "report", "--model", "stories260k", "--device", "cpu", "--out", "page.html"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": ROOT},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while "%" not in (line := process.stderr.readline()):
            assert line, "no line of progress came"
        process.send_signal(number)
        began = time.monotonic()
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - began < PATIENCE_S
