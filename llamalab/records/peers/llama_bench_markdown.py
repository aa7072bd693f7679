"""llama-bench's Markdown table, as pasted into reports: formatted rates converted back to its fields.

Values stay rounded as in the table: a rate has two decimals, and parameters are in billions, so that the model is
identified by its type alone.
"""

import re
from typing import Any

_TEST = re.compile(r"(?:pp(?P<prompt>\d+))?\+?(?:tg(?P<made>\d+))?(?: @ d(?P<depth>\d+))?")
_NS = 1e9
_SETTINGS = {"threads": "n_threads", "ngl": "n_gpu_layers", "fa": "flash_attn", "type_k": "type_k"}


def is_markdown(text: str) -> bool:
    """Whether it has the titles of such a table, all of them in one line."""
    return any({"model", "test", "t/s"} <= set(_cells(line)) for line in text.splitlines() if line.startswith("|"))


def rows_of_markdown(text: str) -> list[dict[str, Any]]:
    """A row of fields for each test. Raises ValueError for an invalid row."""
    titles: list[str] = []
    rows = []
    build = re.search(r"^build: (\w+)", text, re.MULTILINE)
    for line in text.splitlines():
        cells = _cells(line)
        if {"model", "test", "t/s"} <= set(cells):
            titles = cells
        elif titles and line.startswith("|") and not set(line) <= set("|-: "):
            if len(cells) != len(titles):
                raise ValueError(f"a row must have {len(titles)} cells; got {len(cells)}")
            rows.append(_row(dict(zip(titles, cells, strict=True)), build[1] if build else ""))
    return rows


def _row(cells: dict[str, str], build: str) -> dict[str, Any]:
    test, rate = _TEST.fullmatch(cells["test"]), re.match(r"[\d.]+", cells["t/s"])
    if test is None or not (test["prompt"] or test["made"]) or rate is None or not float(rate[0]):
        raise ValueError(f"a test must be like pp512 or tg128 @ d4096, with a rate; got {cells['test']!r}")
    prompt, made = int(test["prompt"] or 0), int(test["made"] or 0)
    row: dict[str, Any] = {
        "model_type": cells["model"],
        "model_n_params": 0,
        "build_commit": build,
        "backends": cells.get("backend", ""),
        "n_prompt": prompt,
        "n_gen": made,
        "n_depth": int(test["depth"] or 0),
        "avg_ns": (prompt + made) / float(rate[0]) * _NS,
    }
    names = {
        "threads": "n_threads",
        "ngl": "n_gpu_layers",
        "fa": "flash_attn",
        "type_k": "type_k",
        "n_ubatch": "n_ubatch",
    }
    return row | {field: cells[title] for title, field in names.items() if title in cells}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
