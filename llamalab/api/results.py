"""The results of calls: figures as attributes, tables as DataFrames, a plot, and a readable repr."""

from collections.abc import Iterator, Sequence

from llamalab.cli.output import Answer, Table, answer_text, cells_of
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class Result:
    """The answer to one call.

    Every key of the JSON that the command prints is an attribute, with its unit in the name: `result.kv_bytes`,
    `result.total_s`. `rows` are the rows of the first table where no key is called so; `notes` are remarks.

    >>> import llamalab
    >>> result = llamalab.kv("7b", context=4096, batch=16)
    >>> result.kv_bytes, result["basis"]
    (34359738368, 'exact')
    """

    def __init__(self, verb: str, answer: Answer, source: object = None, notes: Sequence[str] = ()) -> None:
        self._verb, self._answer, self._source, self._notes = verb, answer, source, notes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._answer.data:
            return self._answer.data[name]
        if name == "notes" and not hasattr(self._source, name):
            return list(self._notes)
        if name == "rows":
            return [dict(row) for row in self._answer.tables[0].rows] if self._answer.tables else []
        if self._source is not None:
            return getattr(self._source, name)
        raise AttributeError(f"a result of llamalab.{self._verb} has no {name!r}; it has {', '.join(self)}")

    def __getitem__(self, key: str) -> Any:
        return self._answer.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answer.data)

    def keys(self) -> list[str]:
        """The names of all figures, so that dict(result) works."""
        return list(self._answer.data)

    def __dir__(self) -> list[str]:
        methods = [name for name in vars(type(self)) if not name.startswith("_")]
        own = [name for name in getattr(self._source, "__dict__", ()) if not name.startswith("_")]
        return sorted({*self._answer.data, *own, "rows", "notes", *methods})

    def __repr__(self) -> str:
        return answer_text(self._answer, "table")

    def _repr_html_(self) -> str:
        """The answer as HTML, for a notebook."""
        from html import escape

        lead = "<br>".join(escape(line) for line in self._answer.lead)
        return f"<div><p>{lead}</p>{''.join(_html_table(table) for table in self._answer.tables)}</div>"

    @property
    def frames(self) -> "list[DataFrame]":
        """Every table as a DataFrame of raw values."""
        from llamalab.records.tables import frame_of_rows

        basis = self._answer.data.get("basis")
        return [frame_of_rows(table.rows, basis) for table in self._answer.tables if table.rows]

    def to_frame(self) -> "DataFrame":
        """The first table as a DataFrame: raw values, units in the column names, the basis a column."""
        from llamalab.records.tables import frame_of_rows

        rows = self._answer.data.get("rows") or (self._answer.tables[0].rows if self._answer.tables else [])
        return frame_of_rows(rows, self._answer.data.get("basis"))

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data."""
        return dict(self._answer.data)

    def to_json(self) -> str:
        """What the command prints with --format json."""
        return answer_text(self._answer, "json")

    def to_csv(self) -> str:
        """What the command prints with --format csv."""
        return answer_text(self._answer, "csv")

    def to_markdown(self) -> str:
        """What the command prints with --format md."""
        return answer_text(self._answer, "md")

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the answer with matplotlib, on `ax` or on axes of its own."""
        from llamalab.api.plots import draw

        return draw(self._verb, self, ax)


def _html_table(table: Table) -> str:
    from html import escape

    title, *rows = cells_of(table)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in title)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
