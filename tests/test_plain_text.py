import csv
import io
import json

import pytest

from llamalab.cli.output import Answer, Column, Table, answer_text
from llamalab.plain_text import csv_text, sentence

HOSTILE = [
    "=cmd|' /C calc'!A0", "+1+2", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1",
    "\x1b[31mred\x9b0m", "a|b\\|c\nd",
]  # fmt: skip
COLUMNS = (Column("name", "name"), Column("error", "error"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_steers_no_spreadsheet_and_numbers_stay_numbers(text: str) -> None:
    rows = [{"name": text, "error": -0.25, "more": "-1e-3", "none": None}]
    for made in (csv_text(list(rows[0]), rows), answer_text(Answer({}, (), (Table((), rows),)), "csv")):
        name, error, more, none = next(iter(list(csv.reader(io.StringIO(made, newline="")))[1:]))
        assert not name.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "＝"))
        assert (error, more, none) == ("-0.25", "-1e-3", "")
        assert "\x1b" not in made
        assert "\x9b" not in made


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["table", "md"])
def test_a_cell_is_one_line_of_one_column(text: str, form: str) -> None:
    answer = Answer({}, (f"about {text.strip()}".replace("\n", " "),), (Table(COLUMNS, [{"name": text, "error": 1}]),))
    made = answer_text(answer, form)
    assert not {"\x1b", "\x9b"} & set(made)
    row = made.splitlines()[-1]
    assert row.endswith(("1", "1 |"))
    if form == "md":
        unescaped = row.replace("\\\\", "").replace("\\|", "")
        assert unescaped.count("|") == 3


def test_json_keeps_the_text_and_escapes_its_controls() -> None:
    made = answer_text(Answer({"name": "\x1b[31m\x9b é\x7f"}, (), ()), "json")
    assert json.loads(made)["name"] == "\x1b[31m\x9b é\x7f"
    assert made.replace("\n", "").isprintable()


def test_a_sentence_is_one_short_line() -> None:
    assert sentence("a\n b\x1b]0;title\x07") == "a b]0;title"
    assert len(sentence("x" * 10**6)) < 2_100
