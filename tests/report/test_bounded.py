"""A page that would be too large gives up what is folded, as little of it as it must, and says so."""

import re

import pytest

from llamalab.records.record import Record
from llamalab.report import bounded, render

PLOT, TABLE = (bounded._LEFT_OUT[what] for what in ("figures", "tables"))


def bytes_of(html: str) -> int:
    return len(html.encode())


def test_the_page_fits_and_no_more_is_left_out_than_must_be(
    record: Record, html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = bytes_of(html) - 60_000
    monkeypatch.setattr(bounded, "PAGE_BYTES", most)
    small = render(record)
    assert most - 35_000 < bytes_of(small) <= most  # the largest part that can go is smaller
    assert small.count("left out: the page") + small.count("left out, as the page") >= 1
    assert 'id="record"' in small
    assert 'id="scatter"' in small  # what is in view stays
    assert TABLE not in small  # plots go first


def test_all_that_is_folded_can_go(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "PAGE_BYTES", 0)
    small = render(record)
    folds = re.findall(r"<details id=.*?</details>", small, re.DOTALL)
    assert small.count(PLOT) >= 5
    assert small.count(TABLE) >= 5
    kept = [fold for fold in folds if 'role="img"' in fold or "<table" in fold]
    assert [fold[:40] for fold in kept] == []
