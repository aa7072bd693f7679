"""What every plot shares: its canvas, its axes' looks, its marks, and the way to inline SVG."""

from collections.abc import Callable, Iterable
from math import ceil, log2
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from llamalab.report import svg
from llamalab.report.theme import sentinels
from llamalab.units import format_bytes, format_si

INK = sentinels()
MARKERS = {"prefill": "o", "decode": "D"}
WIDTH = 10.0  # inches of 72 units: the page shows a plot about 1.3 times as large


class Plot(NamedTuple):
    """A drawn figure, what it is called, what it shows, and tooltips by artist gid."""

    figure: Figure
    title: str
    description: str
    tips: dict[str, str]


def draw(chart: Callable[..., Plot], *args: Any, prefix: str) -> str:
    """Call a chart function and give its plot as inline SVG, with ids that begin with `prefix`."""
    with matplotlib.rc_context(svg.STYLE):
        plot = chart(*args)
        return svg.inline(plot.figure, prefix=prefix, title=plot.title, description=plot.description, tips=plot.tips)


def canvas(height: float, columns: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    """A figure of full width with `columns` axes side by side, dressed."""
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(1, columns, squeeze=False, gridspec_kw=grid or None)[0]
    for one in axes:
        dress(one)
    return figure, list(axes)


def dress(axes: Axes) -> None:
    """Quiet axes: no frame above and right, hairline grid, muted labels."""
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
    """A panel's name, left-aligned above it."""
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold", color=INK["ink"], pad=10)


def legend(figure: Figure, handles: Iterable[Any], **place: Any) -> None:
    """A frameless legend outside the axes."""
    figure.legend(
        handles=list(handles), frameon=False, fontsize=8.5, labelcolor=INK["ink"], handletextpad=0.6,
        columnspacing=1.8, borderaxespad=0.0, borderpad=0.0, **place,
    )  # fmt: skip


def mark(label: str, marker: str, colour: str, *, filled: bool = True, line: Literal["", "-", "--"] = "") -> Line2D:
    """A legend handle."""
    return Line2D(
        [], [], linestyle=line, marker=marker, markersize=6.5, color=INK[colour], label=label,
        markeredgecolor=INK[colour], markerfacecolor=INK[colour] if filled else "none",
    )  # fmt: skip


def bar_axes(axes: Axes) -> None:
    """Axes of horizontal bars: names on the left, grid lines for values only."""
    dress(axes)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK["ink"])


def time_axis(axes: Axes) -> None:
    """A linear time axis with few, round ticks."""
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))


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


def seconds(value: float) -> str:
    """A tick of a time axis: no digits that say nothing.

    >>> seconds(0.04), seconds(0.0015)
    ('40 ms', '1.5 ms')
    """
    return "0" if not value else format_si(value, "s", 1).replace(".0 ", " ")


def plain_bytes(value: float) -> str:
    """A tick of a byte axis.

    >>> plain_bytes(2**34)
    '16 GiB'
    """
    return "0" if not value else format_bytes(value).replace(".00 ", " ")
