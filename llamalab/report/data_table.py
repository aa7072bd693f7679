"""A table of raw values: formatted on the page, raw in CSV. Keys carry their unit; unknown values are a dash, or empty.

`main` columns are always shown; the others on demand, and always in the CSV.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llamalab.comparison.wording import signed_percent, tokens_per_s
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.plain_text import UNKNOWN
from llamalab.records.tables import csv_of_rows


class DataColumn(NamedTuple):
    """A key with its title and the format of its values; `main` where it is in the narrow view."""

    key: str
    title: str
    show: Callable[[Any], str] = str
    numeric: bool = True
    main: bool = True


class DataTable(NamedTuple):
    """Rows of raw values under named columns; the first column names the row.

    `columns` are in the order of the CSV. On the page the main ones come first.
    """

    name: str
    caption: str
    columns: Sequence[DataColumn]
    rows: Sequence[dict[str, Any]]

    @property
    def ordered(self) -> list[DataColumn]:
        """The columns in the order of the page: the main ones, then the details."""
        return sorted(self.columns, key=lambda column: not column.main)

    @property
    def has_details(self) -> bool:
        """Whether columns are hidden at first."""
        return not all(column.main for column in self.columns)

    @property
    def shown(self) -> list[list[str]]:
        """The cells as text, in the order of the page."""
        columns = self.ordered
        return [[_cell(column, row[column.key]) for column in columns] for row in self.rows]

    @property
    def csv(self) -> str:
        """The table as CSV, raw."""
        return csv_of_rows([column.key for column in self.columns], self.rows)

    def only(self, rows: Sequence[dict[str, Any]], name: str, caption: str) -> "DataTable":
        """The same columns over other rows, without those that the page hides."""
        return DataTable(name, caption, [column for column in self.columns if column.main], rows)


def text(key: str, title: str = "", show: Callable[[Any], str] = str, *, main: bool = True) -> DataColumn:
    """A column of words."""
    return DataColumn(key, title or key, show, numeric=False, main=main)


def number(key: str, title: str, show: Callable[[Any], str] = "{:,}".format, *, main: bool = True) -> DataColumn:
    """A column of counts, or of numbers with their own format."""
    return DataColumn(key, title, show, main=main)


def seconds(key: str, title: str, *, main: bool = True) -> DataColumn:
    """A column of times in seconds."""
    return DataColumn(key, title, format_seconds, main=main)


def byte_count(key: str, title: str, *, main: bool = True) -> DataColumn:
    """A column of bytes."""
    return DataColumn(key, title, format_bytes, main=main)


def error(key: str = "error", title: str = "error", *, main: bool = True) -> DataColumn:
    """A column of signed relative errors."""
    return DataColumn(key, title, signed_percent, main=main)


def share(key: str, title: str, *, main: bool = True) -> DataColumn:
    """A column of shares of a whole."""
    return DataColumn(key, title, "{:.0%}".format, main=main)


def speed(key: str, title: str, *, main: bool = True) -> DataColumn:
    """A column of tokens per second, as sentences have them."""
    return DataColumn(key, title, lambda value: tokens_per_s(value).partition(" ")[0], main=main)


def rate(key: str, title: str, unit: str = "", *, main: bool = True) -> DataColumn:
    """A column of amounts per second, or of amounts, with a decimal prefix."""
    return DataColumn(key, title, lambda value: format_si(value, unit), main=main)


def ratio(key: str, title: str, *, main: bool = True) -> DataColumn:
    """A column of factors."""
    return DataColumn(key, title, "{:.2f}x".format, main=main)


def size_columns() -> tuple[DataColumn, ...]:
    """The columns of a pass's sizes."""
    return (
        number("batch", "batch", main=False),
        number("new_tokens", "new tokens", main=False),
        number("context_tokens", "context", main=False),
    )


def prediction() -> tuple[DataColumn, ...]:
    """The columns of a time: predicted, measured, and the error."""
    return seconds("predicted_s", "predicted"), seconds("measured_s", "measured"), error()


def _cell(column: DataColumn, value: Any) -> str:
    return UNKNOWN if value is None else column.show(value)
