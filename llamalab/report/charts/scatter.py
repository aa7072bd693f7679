"""Predicted against measured, one point an operation, with the diagonal."""

import math

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from llamalab.comparison.claims import ALLOWED_ERROR
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Row
from llamalab.comparison.wording import short, signed_percent
from llamalab.formatting import format_si
from llamalab.report.charts.base import INK, MARKERS, Plot, canvas, entries, mark, seconds_tick
from llamalab.report.theme import GROUPS, group_of

LABELLED = 4  # rows named in the plot: those furthest off
APART = 0.22  # decades between two names
ROOM = 25  # the measured axis goes on by this factor on the sides where names stand


def scatter(comparison: Comparison) -> Plot:
    """Log-log, one mark per operation and phase, with y = x and the band of 20%."""
    rows = [row for row in comparison.rows if row.error is not None]
    figures, (axes,) = canvas(3.4)
    low, high = _range(rows)
    named = _named(rows)
    sides = {(row.error or 0.0) > 0 for row in named}  # slower than measured: names stand left of their marks
    axes.set(xscale="log", yscale="log", ylim=(low, high))
    axes.set_xlim(low / (ROOM if True in sides else 1), high * (ROOM if False in sides else 1))
    axes.fill_between(
        [low, high],
        [low * (1 - ALLOWED_ERROR), high * (1 - ALLOWED_ERROR)],
        [low * (1 + ALLOWED_ERROR), high * (1 + ALLOWED_ERROR)],
        color=INK["accent"],
        alpha=0.12,
        linewidth=0,
    )
    axes.plot([low, high], [low, high], color=INK["muted"], linewidth=1)
    tips = {}
    for index, row in enumerate(rows):
        tips.update(_mark(axes, row, f"op{index}"))
    for row in named:
        _label(axes, row)
    ticks = FuncFormatter(lambda value, _: seconds_tick(value))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10))
        axis.set_major_formatter(ticks)
        axis.set_minor_locator(LogLocator(10, subs=()))
    axes.set_xlabel("measured time of one occurrence")
    axes.set_ylabel("predicted")
    return Plot(
        figures,
        "Predicted against measured time",
        f"{len(rows)} operations on logarithmic axes; on the diagonal a prediction is exact, in the band within 20%.",
        tips,
        _handles(rows),
    )


def _mark(axes: Axes, row: Row, gid: str) -> dict[str, str]:
    assert row.measurement is not None
    measured, predicted = _point(row)
    colour = INK[group_of(row.op.part, row.op.kind)]
    first, third = row.measurement.quartiles_s
    axes.plot([first, third], [predicted] * 2, color=colour, linewidth=1.2)
    axes.plot(
        measured,
        predicted,
        MARKERS.get(row.phase, "s"),
        markersize=7,
        color=colour,
        markeredgecolor=INK["card"],
        markeredgewidth=0.8,
        gid=gid,
    )
    seen = f"measured {format_si(measured, 's')}, predicted {format_si(predicted, 's')}"
    return {gid: f"{short(row.op.name)}, {row.phase}: {seen}, error {signed_percent(row.error or 0.0)}"}


def _named(rows: list[Row]) -> list[Row]:
    """The calibrated rows outside the band with the largest errors, where names do not collide."""
    named: list[Row] = []
    for row in sorted(rows, key=lambda row: -abs(row.error or 0.0)):
        near = any(abs(math.log10(_point(row)[1] / _point(other)[1])) < APART for other in named)
        if len(named) < LABELLED and not row.outside and abs(row.error or 0.0) > ALLOWED_ERROR and not near:
            named.append(row)
    return named


def _label(axes: Axes, row: Row) -> None:
    error = row.error or 0.0
    above = error > 0
    axes.annotate(
        f"{short(row.op.name)} {signed_percent(error)}",
        _point(row),
        fontsize=8,
        color=INK["ink"],
        xytext=(-9, 4) if above else (9, -4),
        textcoords="offset points",
        ha="right" if above else "left",
        va="bottom" if above else "top",
    )


def _point(row: Row) -> tuple[float, float]:
    """Measured and predicted seconds; rows without either are not drawn."""
    return row.measured_s or 0.0, row.predicted_s or 0.0


def _range(rows: list[Row]) -> tuple[float, float]:
    """Axis limits: all values, with a quarter of a decade around them."""
    values = [value for row in rows for value in _point(row)]
    return 10 ** (math.log10(min(values)) - 0.25), 10 ** (math.log10(max(values)) + 0.25)


def _handles(rows: list[Row]) -> tuple[Artist, ...]:
    phases = dict.fromkeys(row.phase for row in rows)
    shapes = [mark(phase, MARKERS.get(phase, "s"), "muted") for phase in phases]
    groups = {group_of(row.op.part, row.op.kind) for row in rows}
    colours = [mark(label, "s", group) for group, label in GROUPS.items() if group in groups]
    return entries([*shapes, *colours, mark("exact; band ±20%", "", "muted", line="-")])
