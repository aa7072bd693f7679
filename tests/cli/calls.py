"""Calling the command in this process."""

import json
from typing import Any

import pytest

from llamalab.cli import main

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *argv: str) -> str:
    """What a command that succeeds prints to stdout."""
    capsys.readouterr()
    code = main(argv)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def loaded(capsys: Capture, *argv: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    data = json.loads(printed(capsys, *argv, "--format", "json"))
    assert data["schema_version"] == 1
    return dict(data)


def refused(capsys: Capture, *argv: str, code: int = 2) -> str:
    """The one line that a command which fails prints to stderr."""
    capsys.readouterr()
    assert main(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("llamalab: ")
    return captured.err.removeprefix("llamalab: ").rstrip("\n")


def asked(capsys: Capture, command: str) -> tuple[int, str, str]:
    """The exit code of a command, and what it prints to stdout and stderr."""
    code = main(command.split())
    captured = capsys.readouterr()
    return code, captured.out, captured.err
