"""One way of printing an answer: as an aligned table, JSON, CSV or Markdown.

JSON and CSV carry raw numbers with the unit in the key; tables show them rounded. Unknown values
are null in JSON, empty in CSV and a dash elsewhere.
"""

import sys
from collections.abc import Callable, Sequence

from llamalab.startup.hints import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

from llamalab.plain_text import UNKNOWN, csv_text, in_one_line, markdown_cell, printable, sentence

ANSWER_SCHEMA = 1


class Column(NamedTuple):
    """A column of a shown table: the row's key, the title, and how a value is written.

    On a terminal that is too narrow the columns of the highest `rank` are left out first, of equal ones the last; the
    first column, and those with a rank below 0, are always shown.
    """

    key: str
    title: str
    show: Callable[[Any], str] = str
    rank: int = 0


class Table(NamedTuple):
    """Rows of raw values and the columns that are shown of them.

    CSV has every key of the rows, and no total, so that a sum over its rows is correct.
    """

    columns: tuple[Column, ...]
    rows: Sequence[dict[str, Any]]
    caption: str = ""
    total: dict[str, Any] | None = None


class Answer:
    """What a verb found: `data` for JSON, `lead` lines and tables for people, the first table for CSV.

    Lead and tables may be given as functions, which are called on first use, and `data` as MadeRows: a call from Python
    often needs one figure of many.
    """

    def __init__(
        self,
        data: dict[str, Any],
        lead: tuple[str, ...] | Callable[[], tuple[str, ...]],
        tables: tuple[Table, ...] | Callable[[], tuple[Table, ...]],
    ) -> None:
        self.data, self._lead, self._tables = data, lead, tables

    @property
    def lead(self) -> tuple[str, ...]:
        """The lines above the tables."""
        if callable(self._lead):
            self._lead = self._lead()
        return self._lead

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables."""
        if callable(self._tables):
            self._tables = self._tables()
        return self._tables


def show(answer: Answer, form: str) -> None:
    """Print an answer to stdout as table, json, csv or md."""
    print(answer_text(answer, form))


def answer_text(answer: Answer, form: str) -> str:
    """An answer as table, json, csv or md, without the last line's end."""
    writers = {"table": cell_text, "json": _json, "csv": _csv, "md": _markdown}
    return printable(writers[form](answer))


def note(remark: str, *, once: bool = False) -> None:
    """A remark, to stderr so that stdout is data alone; from Python, to the result's notes.

    With `once` it is printed a single time for a verb with many combinations.
    """
    from llamalab.cli.remarks import HEARD, SAID  # imported here: an answer without remarks need not wait for it

    text, heard, said = sentence(remark), HEARD.get(), SAID.get()
    if heard is not None:
        heard += [] if once and text in heard else [text]
        return
    if not (once and said is not None and text in said):
        print(f"note: {text}", file=sys.stderr)
    if once and said is not None:
        said.add(text)


def option_of(argument: str) -> str:
    """The command-line option of an argument from Python.

    >>> option_of("tensor_parallel")
    '--tensor-parallel'
    """
    return f"--{argument.replace('_', '-')}"


def keep(path: "Path", text: str, *, ours: str | None = None) -> "Path | None":
    """Write a measurement, to a fallback place if needed, and print its path; None where it could only be printed."""
    from llamalab.errors import LlamaLabError
    from llamalab.files.outputs import keep_text

    try:
        place = keep_text(path, text, ours=ours)
    except (LlamaLabError, OSError) as error:
        note(f"{path} could not be written, nor a temporary file ({error}); it is printed instead")
        print(text, flush=True)
        return None
    if place != path:
        note(f"{path} could not be written; it is kept as {place}")
    return place


def thousands(value: int) -> str:
    """A whole number with separators.

    >>> thousands(34359738368)
    '34,359,738,368'
    """
    return f"{value:,}"


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "sequence"), counted(4096, "token")
    ('1 sequence', '4,096 tokens')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share of 1 as a percentage.

    >>> percent(0.0391)
    '3.9 %'
    """
    return f"{100 * share:.1f} %"


def cell_text(answer: Answer) -> str:
    """An answer as aligned tables with every column, however wide."""
    blocks = ["\n".join(answer.lead)] if answer.lead else []
    for table in answer.tables:
        blocks.append("\n".join(([table.caption] if table.caption else []) + lines_of(table)))
    return "\n\n".join(blocks)


def lines_of(table: Table) -> list[str]:
    """A table's title line and rows, aligned."""
    rows = cells_of(table)
    widths, right = widths_of(rows), is_right(table)
    return ["  ".join(map(_align, cells, widths, right)).rstrip() for cells in rows]


def cells_of(table: Table) -> list[list[str]]:
    """Titles and rows as they are shown, each cell of one line."""
    return [list(map(in_one_line, cells)) for cells in _shown(table)]


def widths_of(rows: list[list[str]]) -> list[int]:
    """The width of every column."""
    return [max(map(len, cells)) for cells in zip(*rows, strict=True)]


def _markdown(answer: Answer) -> str:
    blocks = [line.strip() for line in answer.lead if line.strip()]
    for table in answer.tables:
        title, *rows = [f"| {' | '.join(markdown_cell(cell) for cell in row)} |" for row in _shown(table)]
        rule = f"| {' | '.join('---:' if right else '---' for right in is_right(table))} |"
        blocks += [table.caption] if table.caption else []
        blocks.append("\n".join([title, rule, *rows]))
    return "\n\n".join(blocks)


def _json(answer: Answer) -> str:
    import json

    plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=2)
    in_row = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",\n      ", ": "))

    def shown(value: Any) -> str:
        """JSON laid out as with `indent`, which only a slow encoder supports: rows of a sweep use the fast one."""
        if isinstance(value, list) and value and all(map(_is_flat, value)):
            rows = (f"    {{\n      {in_row.encode(row)[1:-1]}\n    }}" for row in value)
            return "[\n" + ",\n".join(rows) + "\n  ]"
        return plain.encode(value).replace("\n", "\n  ")

    data = {"schema_version": ANSWER_SCHEMA, **answer.data}
    text = ",\n".join(f"  {plain.encode(key)}: {shown(value)}" for key, value in data.items())
    return f"{{\n{text}\n}}".translate(_CONTROLS)


def _is_flat(row: object) -> bool:
    return isinstance(row, dict) and bool(row) and _PLAIN.issuperset(map(type, row.values()))


_PLAIN = {str, int, float, bool, type(None)}


# JSON escapes the control characters below a space itself.
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def _csv(answer: Answer) -> str:
    rows = answer.tables[0].rows
    return csv_text(list(rows[0]), rows).rstrip("\n")


def _shown(table: Table) -> list[list[str]]:
    rows = [*table.rows, table.total] if table.total else table.rows
    return [[column.title for column in table.columns], *([_cell(row, c) for c in table.columns] for row in rows)]


def _cell(row: dict[str, Any], column: Column) -> str:
    value = row.get(column.key)
    return UNKNOWN if value is None else column.show(value)


def is_right(table: Table) -> list[bool]:
    """Whether a cell is a number, which is aligned to the right."""
    return [any(type(row[column.key]) in (int, float) for row in table.rows) for column in table.columns]


def _align(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)
