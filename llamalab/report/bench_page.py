"""The page of a bench: its rows as curves over depth and batch, and as a table, from the bench's JSON."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from markupsafe import Markup

from llamalab.comparison.wording import full_name, tokens_per_s
from llamalab.errors import FormatError
from llamalab.files.inputs import parse_json
from llamalab.report.bounded import fill_bounded
from llamalab.report.charts.bench import bench_curves, curves
from llamalab.report.data_table import DataTable, byte_count, error, number, seconds, speed, text
from llamalab.report.layout import Card, Listing, PageContent, Section, figure, plain_json

NUMBERS = ("prompt_tokens", "generated_tokens", "depth_tokens", "batch")
MAYBE = (
    "tokens_per_s",
    "predicted_tokens_per_s",
    "predicted_error",
    "ttft_p50_s",
    "token_p50_s",
    "token_p99_s",
    "memory_bytes",
)
_WORDS = ("model", "device", "dtype", "attention", "blocks", "test")
_CLOSING = "An error is predicted / measured − 1 of the tokens per second. GiB is 2³⁰ bytes."


def are_bench_rows(text_: str) -> bool:
    """Whether a text is JSON of llamalab bench, sound or not.

    >>> are_bench_rows('{"rows": [{"test": "pp512"}]}'), are_bench_rows('{"rows": []}'), are_bench_rows("")
    (True, False, False)
    """
    try:
        data = parse_json(text_, "it")
    except FormatError:
        return False
    rows = data.get("rows") if isinstance(data, dict) else None
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) and "test" in row for row in rows)


def rows_of_bench(text_: str, *, source: str = "the bench") -> list[dict[str, Any]]:
    """The rows in the output of `llamalab bench -o json`. Raises FormatError for a row without a figure."""
    rows: list[dict[str, Any]] = parse_json(text_, source)["rows"]
    for place, row in enumerate(rows):
        wrong = [key for key in NUMBERS if type(row.get(key)) is not int or row[key] < 0]
        wrong += [key for key in _WORDS if not isinstance(row.get(key), str)]
        wrong += [
            key for key in MAYBE if not isinstance(row.get(key), int | float | None) or (row.get(key) or 0) is True
        ]
        if wrong:
            raise FormatError(f"row {place} of {source} must be one that llamalab bench wrote; {wrong[0]} is wrong")
    return rows


def bench_page(rows: Sequence[Mapping[str, Any]], generator: str) -> str:
    """The whole page of the rows of one or more benches."""
    table, first = bench_table(rows), rows[0]
    measured = [row for row in rows if row["tokens_per_s"]]
    models = " and ".join(dict.fromkeys(full_name(row["model"]) for row in rows))
    known = [abs(row["predicted_error"]) for row in measured if row.get("predicted_error") is not None]
    within = (
        [
            f"{len(known)} of {len(rows)} tests have a prediction; "
            f"{sum(one <= 0.2 for one in known)} of them are within 20%."
        ]
        if known
        else []
    )
    missing = None if curves(measured) else "no two tests differ in depth or batch alone"
    doubts = _doubts(rows)
    return fill_bounded(
        PageContent(
            generator=generator,
            title=models,
            machine=first["device"],
            dtype=first["dtype"],
            purpose="tokens per second",
            headline=f"{len(measured)} of {len(rows)} tests of {models} were measured.",
            cards=_best(measured),
            listings=(Listing("Predictions", within), Listing("What to distrust", doubts, "doubt")),
            sections=[
                Section(
                    "curves",
                    "Curves",
                    "Over depth and batch",
                    "Measured marks on lines, predictions dashed.",
                    (figure(bench_curves, measured, "bench", missing),),
                ),
                Section("tests", "Tests", "Every test", "", (table,)),
            ],
            facts=[
                (key.capitalize(), ", ".join(dict.fromkeys(row[key] for row in rows)))
                for key in ("device", "dtype", "attention", "blocks")
            ],
            closing=_CLOSING,
            record_json=Markup(plain_json({"rows": list(rows)})),
            tables=(table,),
        )
    )


def bench_table(rows: Sequence[Mapping[str, Any]]) -> DataTable:
    """One row a test."""
    columns = (
        text("test"),
        text("model", main=False),
        number("batch", "batch"),
        number("depth_tokens", "depth", main=False),
        speed("predicted_tokens_per_s", "predicted tok/s"),
        speed("tokens_per_s", "measured tok/s"),
        error("predicted_error"),
        seconds("ttft_p50_s", "first token, p50"),
        seconds("token_p50_s", "a token, p50"),
        seconds("token_p99_s", "a token, p99", main=False),
        byte_count("memory_bytes", "memory", main=False),
    )
    shown = [{column.key: row.get(column.key) for column in columns} for row in rows]
    return DataTable("bench", "Tests of the bench, predicted and measured", columns, shown)


def _doubts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Disturbances of tests, and reasons for missing figures; sentences that differ only in numbers once."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        doubts = (row.get(key) or () for key in ("disturbances", "remarks"))
        for words in (*chain.from_iterable(doubts), *filter(None, [row.get("reason")])):
            sentence = f"{row['test']}, batch {row['batch']}: {words}"
            alike.setdefault(re.sub(r"[\d.,]+", "", words), []).append(sentence)
    return [
        first if not others else f"{first}; {len(others)} other{'s' * (len(others) > 1)} alike, with their own figures"
        for first, *others in alike.values()
    ]


def _best(measured: Sequence[Mapping[str, Any]]) -> list[Card]:
    """The fastest prompt and the fastest generation."""
    cards = []
    for label, key, other in (
        ("Prompt", "prompt_tokens", "generated_tokens"),
        ("Generation", "generated_tokens", "prompt_tokens"),
    ):
        own = [row for row in measured if row[key] and not row[other]]
        if own:
            best = max(own, key=lambda row: row["tokens_per_s"])
            value, unit = tokens_per_s(best["tokens_per_s"]).split(" ")
            cards.append(Card(f"{label}, fastest", value, unit, (f"{best['test']}, batch {best['batch']}",)))
    return cards
