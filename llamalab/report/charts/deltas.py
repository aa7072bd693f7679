"""The differences of two runs: seconds that each operation of a phase takes more or less."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from llamalab.formatting import format_seconds
from llamalab.report.charts.base import INK, Plot, area, bar_axes, canvas, heading, seconds_tick

MOST = 12  # operations: those that change most


def signed_seconds(value: float) -> str:
    """A difference of times.

    >>> signed_seconds(-0.0015), signed_seconds(2.0), signed_seconds(0.0)
    ('−1.50 ms', '+2.00 s', '0')
    """
    return "0" if not value else f"{'−' if value < 0 else '+'}{format_seconds(abs(value))}"


def deltas(phases: Sequence[Mapping[str, Any]]) -> Plot:
    """A panel a phase: a bar for each operation, to the left where the other run is faster."""
    figures, panels = canvas(0.8 + 0.24 * max(min(MOST, len(phase["ops"])) for phase in phases), len(phases))
    tips: dict[str, str] = {}
    for place, (axes, phase) in enumerate(zip(panels, phases, strict=True)):
        rows = sorted(phase["ops"], key=lambda row: -abs(row["delta_s"]))[:MOST]
        for y, row in enumerate(rows):
            axes.barh(y, row["delta_s"], height=0.6, color=INK["good" if row["delta_s"] < 0 else "bad"])
            axes.patches[-1].set_gid(f"d{place}-{y}")
            tips[f"d{place}-{y}"] = f"{row['op']}: {signed_seconds(row['delta_s'])}, {row['share']:.1%} of what changed"
        axes.axvline(0.0, color=INK["muted"], linewidth=1)
        axes.set_yticks(range(len(rows)), [row["op"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        bar_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        heading(axes, f"{phase['phase'].capitalize()}, by operation")
    return Plot(
        figures,
        "What changed, by operation",
        "A bar an operation: to the left where the other run takes less time, to the right where it takes more.",
        tips,
        (area("takes less time than in A", "good"), area("takes more", "bad")),
    )


def _tick(value: float, _: object) -> str:
    return f"{'−' if value < 0 else ''}{seconds_tick(abs(value))}"
