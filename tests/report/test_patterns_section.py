"""What heads look at, on a page: three heads in view, the others folded, all shares in a table, every cell drawn."""

import dataclasses
import re

import pytest

from llamalab.comparison.comparison import Comparison
from llamalab.records.patterns import Patterns
from llamalab.records.record import Record
from llamalab.report import csv_files
from llamalab.report.charts.patterns import SHADES, patterns
from llamalab.report.patterns_section import SHOWN, finding, heading_of, patterns_sections, patterns_tables
from tests.report.sample_patterns import TOKENS, sample_patterns


@pytest.fixture(scope="module")
def found() -> Patterns:
    return sample_patterns()


def test_a_cell_is_drawn_for_every_weight_that_can_be_seen(found: Patterns) -> None:
    head = found.shown[0]
    svg = str(patterns(found, [(head, "one head")], "p"))
    drawn: dict[tuple[int, int], float] = {}
    for shade, cells in re.findall(r'<path opacity="([\d.]+)" d="([^"]*)"', svg):
        for s, t in re.findall(r"M(\d+) (\d+)\.5h1", cells):
            drawn[int(t), int(s)] = float(shade)
    for t, row in enumerate(head.rows_permille):
        for s, weight in enumerate(row):
            assert drawn.get((t, s), 0.0) == pytest.approx(weight / 1000, abs=0.5 / SHADES + 0.005)
    assert svg.count("<title>") == len(TOKENS)  # a tip for each row
    largest = max(range(9), key=lambda s: head.rows_permille[8][s])
    assert f"<title>cat: {TOKENS[largest].strip()} {head.rows_permille[8][largest] / 1000:.0%}" in svg


def test_three_heads_are_in_view_and_the_others_folded(record: Record, found: Patterns) -> None:
    comparison = Comparison(record)
    (section,) = patterns_sections(comparison, patterns_tables(found))
    (figure,), (fold,) = section.board, section.folds
    shares = {(one.layer, one.head): one for one in found.heads}
    headings = [heading_of(shares[one.layer, one.head], one.kind) for one in found.shown]
    for place, heading in enumerate(headings):
        assert (heading in str(figure)) == (place < SHOWN)
        assert (heading in str(fold.figures[0])) == (place >= SHOWN)
    assert [row["layer"] for row in fold.tables[0].rows] == [one.layer for one in found.heads]
    assert csv_files(record)["heads"] == fold.tables[0].csv


def test_the_finding_counts_heads_by_what_they_give_most(record: Record, found: Patterns) -> None:
    told = finding(Comparison(record), found)
    counts = [int(number) for number in re.findall(r" in (\d+)", told)]
    assert sum(counts) == len(found.heads) == 8
    assert "“A cat saw a dog” is 14 tokens" in told
    assert "8 heads of layers 0 to 1 of 32" in told
    few = dataclasses.replace(found, heads=found.heads[:6], layers=32)
    assert "6 clearest heads of all 32 layers" in finding(Comparison(record), few)


def test_without_a_checkpoint_there_is_no_section_and_a_reason_is_told(record: Record) -> None:
    none, told = None, Patterns(text="A cat.", reason="no tokenizer was found")
    changed = [Comparison(dataclasses.replace(record, patterns=one)) for one in (none, told)]
    assert [patterns_tables(one.record.patterns) for one in changed] == [{}, {}]
    nothing, (section,) = (patterns_sections(one, {}) for one in changed)
    assert nothing == []
    assert section.finding == "“A cat.” was not read: no tokenizer was found."
