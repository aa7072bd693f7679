"""docs/speed.md: its Python does what is shown, and its figures are those of the committed record."""

import doctest
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "speed.md"
RECORD = ROOT / "experiments" / "records" / "cpu-amd-epyc-2-threads" / "versus.json"


def test_the_python_does_what_is_shown() -> None:
    failed, run = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert run > 10
    assert failed == 0


def test_the_figures_are_the_records() -> None:
    conclusion = json.loads(RECORD.read_text(encoding="utf-8"))["conclusion"]
    assert " ".join(conclusion.split()) in " ".join(PAGE.read_text(encoding="utf-8").replace("> ", "").split())
