"""docs/speed.md: its Python does what is shown, and its figures are those of the committed record."""

import doctest
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "speed.md"
RECORDS = ROOT / "experiments" / "records" / "cpu-amd-epyc-2-threads"


def test_the_python_does_what_is_shown() -> None:
    failed, run = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert run > 10
    assert failed == 0


@pytest.mark.parametrize("name", ["versus", "neighbour", "speculative", "continuous_batch", "prefix_reuse"])
def test_the_figures_are_the_records(name: str) -> None:
    conclusion = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))["conclusion"]
    assert " ".join(conclusion.split()) in " ".join(PAGE.read_text(encoding="utf-8").replace("> ", "").split())
