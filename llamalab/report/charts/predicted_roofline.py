"""The roofline of a prediction: every operation of a run under the roofs of a data sheet or a calibration.

Drawn in the page's light colours, for a file or a notebook of its own.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from llamalab.formatting import format_si
from llamalab.report.charts.base import MARKERS
from llamalab.report.theme import COLOURS, GROUPS, group_of

LEFT, RIGHT = 0.1, 1e5  # FLOP per byte
_INK = {name: light for name, (light, _) in COLOURS.items()}


def predicted_roofline(title: str, rows: Sequence[dict[str, Any]], peak: float, bandwidth: float) -> Figure:
    """A figure of the rows of `llamalab roofline` under `peak` FLOP/s and `bandwidth` byte/s."""
    figure = Figure(figsize=(9, 5.4))
    axes = figure.subplots()
    draw_roofline(axes, rows, peak, bandwidth)
    axes.set_title(title)
    return figure


def draw_roofline(axes: Axes, rows: Sequence[dict[str, Any]], peak: float, bandwidth: float) -> None:
    """Roofs, and a mark for every operation, log-log: shape = phase, colour = group, area = share of its pass."""
    ridge = peak / bandwidth
    axes.plot([LEFT, ridge, RIGHT], [LEFT * bandwidth, peak, peak], color=_INK["ink"], linewidth=1.3)
    shown = [row for row in rows if row["flops_per_s"]]
    for row in shown:
        axes.scatter(
            row["intensity"],
            row["flops_per_s"],
            s=16.0 + 400.0 * row["share"],
            alpha=0.85,
            linewidths=0,
            zorder=3,
            marker=MARKERS.get(row["phase"], "s"),
            color=_INK[group_of(row["part"], row["kind"])],
        )
    for phase in dict.fromkeys(row["phase"] for row in shown):
        axes.scatter([], [], marker=MARKERS.get(phase, "s"), color=_INK["muted"], label=f"{phase}, predicted")
    for group in dict.fromkeys(group_of(row["part"], row["kind"]) for row in shown):
        axes.scatter([], [], marker="s", color=_INK[group], label=GROUPS[group])
    axes.set(xscale="log", yscale="log", xlim=(LEFT, RIGHT))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_si(value, "FLOP/s", 0)))
    axes.grid(color=_INK["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"operations per byte (FLOP/B); the ridge is at {ridge:.0f}")
    axes.legend(fontsize="small", loc="lower right")
