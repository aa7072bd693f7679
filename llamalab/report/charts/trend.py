"""Wall times of the benchmarks over stored runs: a sparkline for each, all on one scale of change."""

from collections.abc import Mapping, Sequence
from math import log2

from matplotlib.axes import Axes

from llamalab.report.charts.base import INK, Plot, canvas, seconds_tick

REACH = 1.0  # half a row is a factor of 2; larger changes are drawn at the row's edge
_ROW, MARGIN = 0.21, 0.3  # inches


def trend(medians_s: Mapping[str, Sequence[float | None]]) -> Plot:
    """One row per benchmark: its line moves up as it becomes slower than in its first run."""
    height = _ROW * len(medians_s) + MARGIN
    figures, (axes,) = canvas(height)
    tips: dict[str, str] = {}
    for row, (name, series) in enumerate(medians_s.items()):
        _sparkline(axes, row, name, series, tips)
    runs = max(map(len, medians_s.values()))
    axes.set_yticks(range(len(medians_s)), list(medians_s))
    axes.set_ylim(len(medians_s) - 0.4, -0.6)
    axes.set_xlim(-0.5, runs - 0.5)
    axes.set_xticks([])
    axes.grid(axis="x", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK["ink"], labelsize=8)
    axes.set_xlabel("stored runs, the last one to the right; half a row up is twice the first run's time", fontsize=8.5)
    return Plot(
        figures,
        "Wall times of the benchmarks over stored runs",
        "For every benchmark a line of its median times, run by run, relative to its first run; the last at the right.",
        tips,
    )


def _sparkline(axes: Axes, row: int, name: str, series: Sequence[float | None], tips: dict[str, str]) -> None:
    known = [(place, median) for place, median in enumerate(series) if median]
    if not known:
        return
    first, last, gid = known[0][1], known[-1][1], f"t{row}"
    heights = [row - 0.45 * max(-REACH, min(REACH, log2(median / first))) for _, median in known]
    axes.plot([place for place, _ in known], heights, color=INK["accent"], linewidth=1.4, gid=gid)
    axes.plot([known[-1][0]], heights[-1:], marker="o", markersize=3.2, color=INK["accent"])
    axes.annotate(
        seconds_tick(last),
        (1.0, row),
        xycoords=("axes fraction", "data"),
        fontsize=8,
        color=INK["muted"],
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
    )
    tips[gid] = f"{name}: {len(known)} runs, {seconds_tick(first)} in the first, {seconds_tick(last)} in the last"
