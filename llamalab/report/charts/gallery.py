"""Plots over several records: errors of their passes, and times over those of the first."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter

from llamalab.comparison.claims import ALLOWED_ERROR
from llamalab.comparison.wording import signed_percent
from llamalab.formatting import format_seconds
from llamalab.report.charts.base import INK, MARKERS, Plot, bar_axes, canvas, entries, mark

MOST_LETTERS = 30  # of a name beside an axis
_COLOURS = ("projections", "attention", "feed_forward", "elementwise", "ends")


def fitting(name: str) -> str:
    """A name beside an axis; the beginning of a long one is cut, since the end of a path is the most specific.

    >>> fitting("a/b"), len(fitting("x" * 99)) == MOST_LETTERS
    ('a/b', True)
    """
    return name if len(name) <= MOST_LETTERS else f"…{name[1 - MOST_LETTERS :]}"


def errors_plot(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """A row of dots for each record: the errors of its passes."""
    names = list(dict.fromkeys(row["record"] for row in rows))
    figures, (axes,) = canvas(0.7 + 0.22 * len(names))
    tips: dict[str, str] = {}
    axes.axvspan(-ALLOWED_ERROR, ALLOWED_ERROR, color=INK["accent"], alpha=0.12, linewidth=0)
    axes.axvline(0.0, color=INK["muted"], linewidth=1)
    for place, row in enumerate(row for row in rows if row["error"] is not None):
        gid = f"e{place}"
        axes.plot(
            [row["error"]],
            [names.index(row["record"])],
            MARKERS.get(row["phase"], "s"),
            markersize=6.5,
            color=INK["projections" if row["phase"] == "prefill" else "attention"],
            gid=gid,
        )
        tips[gid] = (
            f"{row['record']}, {row['phase']}: predicted {format_seconds(row['predicted_s'])}, measured "
            f"{format_seconds(row['measured_s'])} ({signed_percent(row['error'])})"
        )
    axes.set_yticks(range(len(names)), [fitting(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    bar_axes(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: signed_percent(value)))
    key = entries(
        [
            mark(
                row["phase"],
                MARKERS.get(row["phase"], "s"),
                "projections" if row["phase"] == "prefill" else "attention",
            )
            for row in rows
        ]
    )
    return Plot(figures, "Errors of predictions", "For each record the errors of its passes.", tips, key)
