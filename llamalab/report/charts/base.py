"""Shared parts of every plot: its panels, the style of axes, its key, and inline SVG.

A plot has one figure a panel, so that a page can put panels side by side or below each other. The key is HTML, which
wraps where the page is narrow.
"""

from collections.abc import Callable, Iterable, Sequence
from math import ceil, log2
from typing import Any, Literal, NamedTuple

import matplotlib
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, NullLocator

from llamalab.formatting import format_bytes, format_seconds
from llamalab.report import svg
from llamalab.report.theme import sentinels

INK = sentinels()
_NAMES = {colour: name for name, colour in INK.items()}
MARKERS = {"prefill": "o", "decode": "D"}
LOOKS = (("projections", "o"), ("attention", "s"), ("feed_forward", "^"), ("elementwise", "D"), ("ends", "v"))
WIDTH = 5.0  # inches of 72 units: the page scales a panel by about 1.4
_SHAPES = {
    "o": "dot",
    "D": "diamond",
    "s": "square",
    "^": "up",
    "v": "down",
    "|": "bar",
    "": "line",
    "X": "cross",
    "P": "plus",
    "x": "cross",
}


class Plot(NamedTuple):
    """Drawn panels, their title, their description, tooltips by artist gid, and the handles of the key."""

    figures: list[Figure]
    title: str
    description: str
    tips: dict[str, str]
    key: tuple[Artist, ...] = ()


def draw_svg(chart: Callable[..., Plot], *args: Any, prefix: str) -> Markup:
    """Call a chart function and give its panels as inline SVG with the key, ids beginning with `prefix`."""
    with matplotlib.rc_context(svg.STYLE):
        plot = chart(*args)
        panels = panel_svgs(plot, prefix)
    return side_by_side(panels, plot.key)


def side_by_side(panels: Iterable[str], key: Iterable[Artist]) -> Markup:
    """Panels as SVG in a row that wraps, and the key of all of them."""
    shown = "".join(map(_key_entry, key))
    return Markup(
        f'<div class="panels">{"".join(panels)}</div>'
        + (f'<ul class="key" aria-label="Key">{shown}</ul>' if shown else "")
    )


def panel_svgs(plot: Plot, prefix: str) -> list[str]:
    """Each panel as inline SVG; call it in the style that the panel was drawn in."""
    return [
        svg.inline(
            figure, prefix=f"{prefix}-{place}", title=_title(plot, place), description=plot.description, tips=plot.tips
        )
        for place, figure in enumerate(plot.figures)
    ]


def canvas(height: float, panels: int = 1) -> tuple[list[Figure], list[Axes]]:
    """One figure a panel, each with dressed axes."""
    figures = [Figure(figsize=(WIDTH, height), layout="constrained") for _ in range(panels)]
    axes = [figure.subplots() for figure in figures]
    for one in axes:
        dress(one)
    return figures, axes


def dress(axes: Axes) -> None:
    """Plain axes: no frame above and right, hairline grid, muted labels."""
    axes.set_axisbelow(True)
    axes.grid(color=INK["grid"], linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK["line"])
    axes.tick_params(which="both", length=0, labelcolor=INK["muted"], labelsize=8.5, pad=5)
    axes.xaxis.label.set_color(INK["muted"])
    axes.yaxis.label.set_color(INK["muted"])


def heading(axes: Axes, text: str) -> None:
    """A panel's name, left-aligned above all of it."""
    axes.figure.suptitle(text, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK["ink"])


def mark(label: str, marker: str, colour: str, *, filled: bool = True, line: Literal["", "-", "--"] = "") -> Line2D:
    """An entry of the key: a mark, a line, or both."""
    return Line2D(
        [],
        [],
        linestyle=line,
        marker=marker,
        markersize=6.5,
        color=INK[colour],
        label=label,
        markeredgecolor=INK[colour],
        markerfacecolor=INK[colour] if filled else "none",
    )


def curve(axes: Axes, x: Sequence[float], y: Sequence[float], look: int) -> None:
    """A line with marks in the colour and shape of that number in LOOKS."""
    colour, marker = LOOKS[look]
    axes.plot(x, y, marker=marker, markersize=6, color=INK[colour], markeredgecolor=INK["card"], linewidth=1.8)


def handle(label: str, look: int) -> Line2D:
    """The entry of the key for such a curve."""
    colour, marker = LOOKS[look]
    return mark(label, marker, colour, line="-")


def dashes() -> tuple[int, tuple[int, int]]:
    """The line style of predictions and of reference levels."""
    return (0, (4, 3))


def ticks(axes: Axes, values: Sequence[int]) -> None:
    """Just these ticks on a logarithmic axis."""
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())


def area(label: str, colour: str, *, hatched: bool = False) -> Patch:
    """An entry of the key: a filled area."""
    return Patch(color=INK[colour], label=label, hatch="////" if hatched else None)


def bar_axes(axes: Axes) -> None:
    """Axes of horizontal bars: names on the left, grid lines for values only."""
    dress(axes)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK["ink"])


def time_axis(axes: Axes) -> None:
    """A linear time axis with few, round ticks."""
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds_tick(value)))


def byte_axis(axes: Axes, largest: float) -> None:
    """A linear axis from 0 to `largest` bytes, ticks at powers of two."""
    axes.xaxis.set_major_locator(MultipleLocator(byte_step(largest)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_bytes(value)))
    axes.set_xlim(0, largest)


def byte_step(largest: float) -> float:
    """The distance of ticks on an axis that reaches `largest` bytes: a power of two.

    >>> byte_step(24 * 2**30) == 8 * 2**30
    True
    """
    return float(2.0 ** ceil(log2(max(largest, 4.0) / 5)))


def seconds_tick(value: float) -> str:
    """A tick of a time axis, without trailing zeros.

    >>> seconds_tick(0.04), seconds_tick(0.0015)
    ('40 ms', '1.5 ms')
    """
    return "0" if not value else format_seconds(value, 1).replace(".0 ", " ")


def plain_bytes(value: float) -> str:
    """A tick of a byte axis.

    >>> plain_bytes(2**34)
    '16 GiB'
    """
    return "0" if not value else format_bytes(value).replace(".00 ", " ")


def entries(handles: Iterable[Artist]) -> tuple[Artist, ...]:
    """The handles of a key, each label once."""
    return tuple({str(handle.get_label()): handle for handle in handles}.values())


def _title(plot: Plot, place: int) -> str:
    """The plot's title, with the panel's own heading where there are several."""
    if len(plot.figures) == 1:
        return plot.title
    own = plot.figures[place].get_suptitle()
    return f"{plot.title}: {own}" if own else f"{plot.title} {place + 1}"


def _key_entry(handle: Artist) -> str:
    """A handle as a list item: a drawn shape in its colour, and its label."""
    if isinstance(handle, Line2D):
        shapes = [_SHAPES.get(str(handle.get_marker()), "dot")] if handle.get_marker() not in ("None", "") else []
        shapes += {"-": ["line"], "--": ["dashes"]}.get(str(handle.get_linestyle()), [])
        hollow = handle.get_markerfacecolor() == "none" and bool(shapes)
        colour = _NAMES[str(handle.get_color())]
    else:
        assert isinstance(handle, Patch)
        hollow, colour = False, _NAMES.get(to_hex(handle.get_facecolor()), "muted")
        shapes = ["hatch" if handle.get_hatch() else "square"]
    names = " ".join([*shapes, *(["hollow"] if hollow else []), f"c-{colour}"])
    swatch = f'<i class="{names}"></i>' if shapes else ""
    return f"<li>{swatch}{escape(handle.get_label())}</li>"
