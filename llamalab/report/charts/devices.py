"""Predicted latency of one run over the table of devices, with the interval of each prediction."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from llamalab.comparison.what_if import Elsewhere
from llamalab.formatting import format_seconds, format_si
from llamalab.report.charts.base import INK, Plot, bar_axes, canvas, mark, seconds_tick


def devices(rows: Sequence[Elsewhere], here: Elsewhere | None) -> Plot:
    """One dot per device with its interval, on a logarithmic axis, the fastest on top; this machine stands out."""
    shown = sorted(
        (row for row in (*rows, *([here] if here else [])) if row.times),
        key=lambda row: row.times.total_s if row.times else 0.0,
    )
    figures, (axes,) = canvas(0.5 + 0.185 * len(shown))
    tips: dict[str, str] = {}
    axes.set_xscale("log")
    for y, row in enumerate(shown):
        _dot(axes, y, row, tips)
    axes.set_yticks(range(len(shown)), [_name(row) for row in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.16)  # the last label stands right of its mark
    bar_axes(axes)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(LogLocator(10, subs=()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds_tick(value)))
    return Plot(
        figures,
        "Predicted latency on other devices",
        "For every device of the table that holds the model, and for this machine: predicted seconds of the run and "
        "its interval.",
        tips,
        (
            mark("predicted run", "o", "projections"),
            mark("this machine", "D", "attention"),
            mark("interval of the prediction", "None", "ink", line="-"),
        ),
    )


def _dot(axes: Axes, y: int, row: Elsewhere, tips: dict[str, str]) -> None:
    assert row.times is not None
    total_s, (low, high) = row.times.total_s, row.interval_s or (row.times.total_s, row.times.total_s)
    gid, here = f"d{y}", row.spec.measured
    axes.plot([low, high], [y, y], color=INK["ink"], linewidth=1.2)
    axes.plot(
        [total_s],
        [y],
        "D" if here else "o",
        markersize=6.5,
        color=INK["attention" if here else "projections"],
        markeredgecolor=INK["card"],
        markeredgewidth=0.8,
        gid=gid,
    )
    axes.annotate(
        format_seconds(total_s),
        (high, y),
        fontsize=8,
        color=INK["muted"],
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
    )
    tips[gid] = (
        f"{_name(row)}: {format_si(total_s, 's')} ({format_si(low, 's')} to {format_si(high, 's')}), "
        f"prefill {format_si(row.times.prefill_s, 's')}, {row.basis}"
    )


def _name(row: Elsewhere) -> str:
    return row.spec.name if row.ranks == 1 else f"{row.ranks} x {row.spec.name}"
