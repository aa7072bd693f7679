"""Predicted latency of one run over the table of devices, with the interval of each prediction."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator

from llamalab.comparison.what_if import Elsewhere
from llamalab.report.charts.base import INK, Plot, bar_axes, canvas, legend, mark, seconds
from llamalab.units import format_si


def devices(rows: Sequence[Elsewhere]) -> Plot:
    """One bar per device, prefill and decode, on a logarithmic axis, the fastest on top."""
    shown = [row for row in rows if row.times]
    figure, (axes,) = canvas(0.95 + 0.24 * len(shown))
    figure.subplots_adjust(left=0.155, right=0.93, top=0.985, bottom=0.55 / (0.95 + 0.24 * len(shown)))
    tips: dict[str, str] = {}
    smallest = min((row.interval_s or (1.0, 1.0))[0] for row in shown)
    axes.set_xscale("log")
    for y, row in enumerate(shown):
        _bar(axes, y, row, smallest / 2, tips)
    axes.set_yticks(range(len(shown)), [_name(row) for row in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    bar_axes(axes)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(LogLocator(10, subs=()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    handles = [Patch(color=INK["projections"], label="predicted run"), mark("interval", "|", "ink", line="-")]
    legend(figure, handles, loc="lower left", bbox_to_anchor=(0.155, 0.01), ncols=2, handlelength=0.9)
    return Plot(
        figure,
        "Predicted latency on other devices",
        "For every device of the table that holds the model: predicted seconds of the run and its interval.",
        tips,
    )


def _bar(axes: Axes, y: int, row: Elsewhere, left: float, tips: dict[str, str]) -> None:
    assert row.times is not None
    total_s, (low, high) = row.times.total_s, row.interval_s or (row.times.total_s, row.times.total_s)
    gid = f"d{y}"
    axes.barh(y, total_s - left, left=left, height=0.58, color=INK["projections"])
    axes.patches[-1].set_gid(gid)
    axes.plot([low, high], [y, y], color=INK["ink"], linewidth=1.2)
    for end in (low, high):
        axes.plot([end] * 2, [y - 0.18, y + 0.18], color=INK["ink"], linewidth=1.2)
    axes.annotate(format_si(total_s, "s"), (high, y), fontsize=8, color=INK["muted"], xytext=(6, 0),
                  textcoords="offset points", va="center")  # fmt: skip
    tips[gid] = (
        f"{_name(row)}: {format_si(total_s, 's')} ({format_si(low, 's')} to {format_si(high, 's')}), "
        f"prefill {format_si(row.times.prefill_s, 's')}, {row.basis}"
    )


def _name(row: Elsewhere) -> str:
    return row.spec.name if row.ranks == 1 else f"{row.ranks} x {row.spec.name}"
