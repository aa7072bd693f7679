"""Rows as a DataFrame, and a DataFrame as CSV. pandas is imported when one is made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llamalab.plain_text import csv_cell

if TYPE_CHECKING:
    from pandas import DataFrame


def frame_of_rows(rows: Iterable[Mapping[str, Any]], basis: str | None = None) -> "DataFrame":
    """Rows of one table as a DataFrame; `basis` fills a column where the rows have none."""
    from pandas import DataFrame

    frame = DataFrame([dict(row) for row in rows])
    if basis is not None and "basis" not in frame.columns:
        frame["basis"] = basis
    return frame


def csv_of_rows(keys: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    r"""Rows as CSV under these keys, with all digits; None and missing values are empty.

    >>> csv_of_rows(["op", "count", "time_s"], [{"op": "=wq", "count": 32}, {"op": "wk", "time_s": 1e-06}])
    "op,count,time_s\n'=wq,32,\nwk,,1e-06\n"
    """
    from pandas import DataFrame

    # As objects: a column of whole numbers with missing values would become floats.
    frame = DataFrame([{key: csv_cell(row.get(key)) for key in keys} for row in rows], columns=list(keys), dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")
