"""What no option that names something can be is said in one sentence, by every verb, before any work."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from llamalab.cli import VERBS, main, verb_parser

NEEDED = {  # what a verb cannot be called without
    "compare": ["one.json", "two.json"],
    "diff-arch": ["7b", "13b"],
    "fit": ["--memory", "24GiB"],
    "gallery": ["folder"],
    "generate": ["--model", "one.json", "--text", "one"],
    "tour": ["--model", "one.json"],
    "inspect": ["--model", "one.json"],
    "convert": ["one.json", "--to", "hf"],
    "score": ["one.json"],
    "train": ["--text", "one.json", "--tokenizer", "one.json"],
}
OUTS = {
    "": 2,
    "folder": 2,
    "one.json/below.html": 3,
    "/proc/none/here.html": 3,
    "x" * 300 + ".html": 2,
    "nul\0.html": 2,
    "locked/out.html": 3,
}
EMPTY = (
    "--out",
    "--from",
    "--model",
    "--tokenizer",
    "--constants",
    "--hardware",
    "--page",
    "--svg",
    "--run",
    "--dtype",
)


def options(verb: str) -> list[str]:
    return verb_parser(verb)[1].options


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, a folder, and one where nothing can be made, whoever asks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked").symlink_to("/proc/self/fdinfo")
    return tmp_path


def refused(verb: str, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> int:
    """The exit code of a verb that must not begin; it says one sentence and nothing else."""

    def began(*_: Any) -> int:
        raise AssertionError(f"{verb} {argv} began to work")

    monkeypatch.setattr(import_module(f"llamalab.cli.{verb.replace('-', '_')}"), "run", began, raising=False)
    code = main([verb, *NEEDED.get(verb, []), *argv])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("llamalab: ")
    assert said.err.count("\n") == 1
    return code


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "--out" in options(verb)])
def test_an_output_that_cannot_be_is_refused_before_any_work(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for out, code in OUTS.items():
        assert refused(verb, ["--out", out], monkeypatch, capsys) == code, out


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_name_is_refused_before_any_work(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in sorted({*EMPTY} & {*options(verb)}):
        for argv in ([option, ""], [f"{option}="]):
            assert refused(verb, argv, monkeypatch, capsys) == 2, argv


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("before", [[], ["--"]])
def test_an_empty_argument_is_refused_before_any_work(
    verb: str, before: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(NEEDED, verb, [])
    assert refused(verb, [*before, ""], monkeypatch, capsys) == 2


@pytest.mark.parametrize(
    ("verb", "argv"),
    [
        ("compare", ["--out", "one.json"]),
        ("compare", ["--out", "folder/../one.json"]),
        ("score", ["--out", "one.json"]),
        ("report", ["--from", "one.json", "--out", "one.json"]),
        ("params", ["--model", "one.json", "--out", "./one.json"]),
        ("predict", ["--constants", "one.json", "--out", "one.json"]),
    ],
)
def test_an_output_is_no_file_that_is_read(
    verb: str, argv: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(verb, argv, monkeypatch, capsys) == 2
    assert (place / "one.json").read_text() == "{}"


def test_a_text_may_be_empty() -> None:
    assert verb_parser("generate")[1].read(["--text", "", "--stop=", "--model", "x"]).text == [""]


def test_what_is_refused_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.iterdir())
    for out in OUTS:
        refused("kv", ["--out", out], monkeypatch, capsys)
    assert sorted(place.iterdir()) == before
