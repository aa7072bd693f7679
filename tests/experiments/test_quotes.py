"""Quotes of README and the docs: those of the records, today's."""

import pytest

from experiments import quotes
from llamalab.errors import InputError


@pytest.mark.parametrize("page", quotes.PAGES, ids=lambda page: page.name)
def test_every_quote_is_that_of_its_record(page: quotes.Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- versus: " in text
    assert quotes.quoted(text) == text, "python -m experiments.draw writes them anew"


def test_a_stale_quote_is_replaced_and_what_stands_around_it_stays() -> None:
    stale = "before\n<!-- versus: headline -->\n> 5 times as fast\n> as light\n\n> no quote of ours\n"
    made = quotes.quoted(stale)
    assert made.startswith("before\n<!-- versus: headline -->\n> On ")
    assert made.endswith("\n\n> no quote of ours\n")
    assert "light" not in made
    assert quotes.quoted(made) == made


def test_words_that_nobody_has_are_refused() -> None:
    with pytest.raises(InputError, match="tap_cost: headline"):
        quotes.quoted("<!-- tap_cost: headline -->\n")
