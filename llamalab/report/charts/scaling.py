"""The time of a pass over the number of ranks: measured, predicted, and predicted for other splits."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from llamalab.comparison.ranks import ScalingPoint
from llamalab.formatting import format_seconds
from llamalab.report.charts.base import INK, LOOKS, Plot, canvas, heading, mark, seconds_tick, ticks


class ScalingCurve(NamedTuple):
    """The phase or test of a curve, and its points by number of ranks."""

    name: str
    points: tuple[ScalingPoint, ...]


class _Line(NamedTuple):
    """One line of a curve: its label, its number in LOOKS, its line style, and the value that it draws of a point."""

    label: str
    look: int
    style: Literal["-", "--"]
    of: Callable[[ScalingPoint], float | None]


_LINES = (
    _Line("measured", 0, "-", lambda point: point.measured_s),
    _Line("predicted", 0, "--", lambda point: point.predicted_s),
    _Line("predicted, sequence parallelism", 1, "--", lambda point: point.sequence_parallel_s),
    _Line("predicted, overlap at best", 2, "--", lambda point: point.overlap_s),
)


def scaling(curves: Sequence[ScalingCurve]) -> Plot:
    """A log-log panel a curve: measured marks on a line, predictions dashed, and the first point over the ranks."""
    figures, panels = canvas(2.6, len(curves))
    tips: dict[str, str] = {}
    for place, (axes, curve) in enumerate(zip(panels, curves, strict=True)):
        _ideal(axes, curve.points)
        drawn = [_draw(axes, line, curve, f"n{place}-{number}", tips) for number, line in enumerate(_LINES)]
        _axes(axes, curve, [time_s for times in drawn for time_s in times])
    shown = [line for line in _LINES if any(line.of(point) for curve in curves for point in curve.points)]
    key = [_handle(line) for line in shown]
    return Plot(
        figures,
        "Time of a pass over ranks",
        f"A panel a phase; both axes are logarithmic. {' '.join(map(_in_words, curves))}",
        tips,
        (*key, mark("the first over the ranks", "", "muted", line="-")),
    )


def _draw(axes: Axes, line: _Line, curve: ScalingCurve, key: str, tips: dict[str, str]) -> list[float]:
    """The line and its marks; the seconds that it goes through."""
    seen = [(point.ranks, time_s) for point in curve.points if (time_s := line.of(point))]
    colour, marker = LOOKS[line.look]
    measured = line.style == "-"
    dashes = "-" if measured else (0, (4, 3))
    axes.plot([ranks for ranks, _ in seen], [time_s for _, time_s in seen], ls=dashes, color=INK[colour], linewidth=1.8)
    for ranks, time_s in seen:
        gid = f"{key}-{ranks}"
        face = INK[colour] if measured else "none"
        axes.plot(
            ranks, time_s, marker, markersize=6, color=INK[colour], markerfacecolor=face, gid=gid, linestyle="none"
        )
        tips[gid] = f"{curve.name} on {_ranks(ranks)}, {line.label}: {format_seconds(time_s)}"
    return [time_s for _, time_s in seen]


def _ideal(axes: Axes, points: Sequence[ScalingPoint]) -> None:
    first = points[0]
    if time_s := first.measured_s or first.predicted_s:
        over = [time_s * first.ranks / point.ranks for point in points]
        axes.plot([point.ranks for point in points], over, color=INK["muted"], linewidth=1)


def _axes(axes: Axes, curve: ScalingCurve, times_s: Sequence[float]) -> None:
    axes.set(xscale="log", yscale="log")
    ticks(axes, [point.ranks for point in curve.points])
    narrow = bool(times_s) and max(times_s) < 10 * min(times_s)
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds_tick(value)))
    axes.set_xlabel("ranks")
    heading(axes, curve.name)


def _handle(line: _Line) -> Line2D:
    colour, marker = LOOKS[line.look]
    return mark(line.label, marker, colour, filled=line.style == "-", line=line.style)


def _in_words(curve: ScalingCurve) -> str:
    """The curve in words, as alternative text."""
    parts = []
    for point in curve.points:
        accounts = [f"{line.label} {format_seconds(time_s)}" for line in _LINES if (time_s := line.of(point))]
        parts.append(f"{_ranks(point.ranks)}: {', '.join(accounts) or 'not known'}")
    return f"{curve.name}, {'; '.join(parts)}."


def _ranks(ranks: int) -> str:
    return "1 rank" if ranks == 1 else f"{ranks} ranks"
