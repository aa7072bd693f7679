"""The page of a comparison: what `llamalab compare` prints, self-contained, without scripts or network."""

import json
from html import escape
from typing import Any

from llamalab.report.theme import COLOURS
from llamalab.units import format_seconds

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--page); color: var(--ink); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { text-align: right; white-space: nowrap; }
.bar { display: inline-block; height: .7rem; background: var(--bad); }
.bar.faster { background: var(--good); }
.muted { color: var(--muted); }
"""


def compare_page(data: dict[str, Any]) -> str:
    """The page of the data that `llamalab compare --format json` prints; they are embedded in it."""
    light = ";".join(f"--{name}:{colours[0]}" for name, colours in COLOURS.items())
    dark = ";".join(f"--{name}:{colours[1]}" for name, colours in COLOURS.items())
    style = f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{_STYLE}"
    runs = "".join(
        f"<li>{escape(run['run'])}: {escape(str(run['name']))} <span class=muted>({escape(run['tool'])})</span></li>"
        for run in data["runs"]
    )
    shown = json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>llamalab compare</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="generator" content="llamalab compare"><style>{style}</style></head><body>'
        f"<h1>Runs compared</h1><ul>{runs}</ul>{''.join(map(_comparison, data['comparisons']))}"
        f'<script type="application/json" id="comparison">{shown}</script></body></html>\n'
    )


def _comparison(one: dict[str, Any]) -> str:
    settings = "".join(
        f"<li>{escape(key)}: {escape(str(a))} and {escape(str(b))}</li>" for key, (a, b) in one["settings"].items()
    )
    differs = f"<p>What differs:</p><ul>{settings}</ul>" if settings else ""
    return f"<h2>{escape(one['letter'])} against A</h2>{differs}{''.join(map(_phase, one['phases']))}"


def _phase(phase: dict[str, Any]) -> str:
    rows = "".join(map(_row, phase["ops"]))
    head = "".join(f"<th>{title}</th>" for title in ("operation", "A", "other", "difference", "part of it", "why"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
    times = f"{format_seconds(phase['a_s'])} and {format_seconds(phase['b_s'])}"
    return f"<h3>{escape(phase['phase'])}: {escape(phase['verdict'])}</h3><p>{times}. {escape(phase['why'])}</p>{table}"


def _row(row: dict[str, Any]) -> str:
    kind = " faster" if row["delta_s"] < 0 else ""
    bar = f'<span class="bar{kind}" style="width:{100 * row["share"]:.1f}px"></span> {row["share"]:.1%}'
    times = (_time(row[key]) for key in ("a_s", "b_s", "delta_s"))
    cells = "".join(f"<td class=n>{cell}</td>" for cell in times)
    return f"<tr><td>{escape(row['op'])}</td>{cells}<td>{bar}</td><td>{escape(row['why'])}</td></tr>"


def _time(value: float | None) -> str:
    if value is None:
        return "–"
    return format_seconds(value) if value >= 0 else f"−{format_seconds(-value)}"
