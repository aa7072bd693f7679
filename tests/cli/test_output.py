"""Four forms of one answer; what is unknown is never zero."""

import json

import pytest

from llamalab.cli.output import Answer, Column, Table, show

ANSWER = Answer(
    {"rows": [1, None]},
    ("lead",),
    (
        Table(
            (Column("name", "name"), Column("size", "size", lambda value: f"{value} B")),
            [{"name": "a|b", "size": 1, "extra": 7}, {"name": "c, d", "size": None, "extra": None}],
            caption="caption",
            total={"name": "sum", "size": 1},
        ),
        Table((Column("x", "x"),), [{"x": "y"}]),
    ),
)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "lead\n\ncaption\nname  size\na|b    1 B\nc, d     –\nsum    1 B\n\nx\ny\n"),
        ("csv", 'name,size,extra\na|b,1,7\n"c, d",,\n'),
        (
            "md",
            "lead\n\ncaption\n\n| name | size |\n| --- | ---: |\n| a\\|b | 1 B |\n| c, d | – |\n| sum | 1 B |\n\n"
            "| x |\n| --- |\n| y |\n",
        ),
    ],
)
def test_forms(capsys: pytest.CaptureFixture[str], form: str, expected: str) -> None:
    show(ANSWER, form)
    assert capsys.readouterr().out == expected


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    show(ANSWER, "json")
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "rows": [1, None]}


def test_json_refuses_what_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        show(Answer({"x": float("nan")}, (), ()), "json")
