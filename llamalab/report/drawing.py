"""A plot as an SVG file of its own: its panels side by side, its key below, in light and dark colours."""

import re
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.artist import Artist
from matplotlib.lines import Line2D

from llamalab.report import svg
from llamalab.report.charts.base import Plot, panel_svgs
from llamalab.report.theme import sentinels, variables

_GAP, _LINE, _FONT = 8.0, 16.0, "font-family:'DejaVu Sans',Verdana,sans-serif"
_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_CHARACTER = 5.6  # width of one character of the key, at 9 units


def drawing(chart: Callable[..., Plot], *args: Any) -> str:
    """The SVG text of a plot; the same arguments give the same bytes."""
    with matplotlib.rc_context(svg.STYLE):
        plot = chart(*args)
        panels = panel_svgs(plot, "panel")
    sizes = [(float(box[1]), float(box[2])) for box in map(_BOX.search, panels) if box]
    width, height = sum(size[0] for size in sizes) + _GAP * (len(sizes) + 1), max(size[1] for size in sizes) + _GAP
    placed, left = [], _GAP
    for panel, size in zip(panels, sizes, strict=True):
        at = f'<svg x="{left:g}" y="{_GAP:g}" width="{size[0]:g}" height="{size[1]:g}" '
        placed.append(panel.replace("<svg ", at, 1))
        left += size[0] + _GAP
    key, lines = _key(plot.key, width)
    height += _GAP + _LINE * lines
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'style="{_FONT};font-size:9px" aria-label="{escape(plot.title)}">'
    )
    body = f'{_colours()}<rect width="100%" height="100%" fill="var(--card)"/>{"".join(placed)}'
    foot = f'<g transform="translate({_GAP:g} {height - _LINE * lines:g})">{key}</g>' if key else ""
    return f"{head}<title>{escape(plot.title)}</title><desc>{escape(plot.description)}</desc>{body}{foot}</svg>\n"


def _colours() -> str:
    """The CSS variables of the plots' colours; text without a colour takes the ink."""
    light, dark = ("".join(f"--{name}:{pair[place]};" for name, pair in variables().items()) for place in (0, 1))
    night = f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return f"<style>:root{{{light}}}{night}text{{fill:var(--ink)}}</style>"


def _key(handles: tuple[Artist, ...], width: float) -> tuple[str, int]:
    """The entries in as many lines as they need, and how many that are."""
    entries, left, line = [], 0.0, 0
    for handle in handles:
        label = str(handle.get_label())
        wide = 26 + _CHARACTER * len(label)
        if left and left + wide > width - 2 * _GAP:
            left, line = 0.0, line + 1
        drawn = f'{_swatch(handle)}<text x="20" y="9">{escape(label)}</text>'
        entries.append(f'<g transform="translate({left:g} {_LINE * line:g})">{drawn}</g>')
        left += wide + 10
    return "".join(entries), line + 1 if entries else 0


def _swatch(handle: Artist) -> str:
    """A short line, a mark on it, or a square, in the entry's colour."""
    names = {colour: f"var(--{name})" for name, colour in sentinels().items()}
    if not isinstance(handle, Line2D):
        from matplotlib.colors import to_hex

        colour = names[to_hex(handle.get_facecolor())]  # type: ignore[attr-defined]
        return f'<rect x="3" y="1" width="10" height="10" fill="{colour}"/>'
    colour, style = names[str(handle.get_color())], str(handle.get_linestyle())
    dashes = ' stroke-dasharray="4 3"' if style == "--" else ""
    stroke = f'<path d="M0 6H16" stroke="{colour}" stroke-width="2"{dashes}/>' if style in ("-", "--") else ""
    marker = str(handle.get_marker())
    return stroke + (f'<circle cx="8" cy="6" r="3.5" fill="{colour}"/>' if marker not in ("None", "", "|") else "")
