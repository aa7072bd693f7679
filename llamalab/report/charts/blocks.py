"""The time of one block, op by op, measured and predicted."""

from matplotlib.axes import Axes

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Phase, Row
from llamalab.comparison.wording import short, signed_percent
from llamalab.formatting import format_seconds, format_si
from llamalab.report.charts.base import INK, Plot, area, bar_axes, canvas, heading, mark, time_axis
from llamalab.report.theme import GROUPS, group_of

SHORTEST_NAMED = 0.09  # a segment narrower than this share of the longest bar carries no number


def stacked(comparison: Comparison) -> Plot:
    """Two bars per phase, predicted and measured, split by group of operations."""
    phases = [phase for phase in comparison.phases if _block(phase)]
    figures, panels = canvas(1.5, len(phases))
    tips: dict[str, str] = {}
    for index, (axes, phase) in enumerate(zip(panels, phases, strict=True)):
        _stack(axes, phase, f"{index}", tips)
        heading(axes, f"{phase.run.phase.capitalize()}, one block")
    return Plot(
        figures,
        "Time of one block by group of operations",
        "For prefill and decode: the predicted and the measured time of one block, split by group.",
        tips,
        tuple(area(GROUPS[group], group) for group in GROUPS if group != "ends"),
    )


def bars(comparison: Comparison) -> Plot:
    """One bar per operation and phase, with a tick at the prediction."""
    phases = [phase for phase in comparison.phases if _block(phase)]
    names = list(dict.fromkeys(row.op.name for phase in phases for row in _block(phase)))
    figures, panels = canvas(0.6 + 0.19 * len(names), len(phases))
    tips: dict[str, str] = {}
    for index, (axes, phase) in enumerate(zip(panels, phases, strict=True)):
        _bullets(axes, phase, names, f"{index}", tips)
        heading(axes, f"{phase.run.phase.capitalize()}, one block, op by op")
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
    handles = [mark("measured (median)", "s", "muted"), mark("predicted", "|", "ink")]
    if comparison.basis.constants:
        handles.append(mark("interval of the prediction", "", "ink", line="-"))
    return Plot(
        figures,
        "Time of each operation of a block",
        "For every operation a bar for the measured median and a tick for the prediction; errors beside the bars.",
        tips,
        tuple(handles),
    )


def _block(phase: Phase) -> list[Row]:
    return [row for row in phase.rows if row.op.section == "block" and row.measured_s]


def _stack(axes: Axes, phase: Phase, key: str, tips: dict[str, str]) -> None:
    """A bar is as long as the block of the clean passes; the op-by-op pass gives the shares in it."""
    rows = _block(phase)
    _, predicted_s, measured_s = next(part for part in phase.parts if part[0] == "block")
    for y, (label, total_s, seconds_of) in enumerate(
        (("predicted", predicted_s, _predicted), ("measured", measured_s, _measured))
    ):
        spent, left = sum(map(seconds_of, rows)), 0.0
        if not spent or not total_s:
            axes.text(0, y, f" not {label}", va="center", fontsize=8.5, color=INK["muted"])
            continue
        for group in GROUPS:
            share = sum(seconds_of(row) for row in rows if group_of(row.op.part, row.op.kind) == group) / spent
            if not share:
                continue
            gid, width = f"s{key}{y}{group}", share * total_s
            axes.barh(y, width, left=left, height=0.62, color=INK[group], edgecolor=INK["card"], linewidth=1)
            axes.patches[-1].set_gid(gid)
            tips[gid] = f"{label}, {GROUPS[group]}: {format_si(width, 's')}, {share:.0%}"
            if width >= SHORTEST_NAMED * max(predicted_s or 0.0, measured_s or 0.0):
                axes.text(
                    left + width / 2,
                    y,
                    f"{share:.0%}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color=INK["card"],
                    fontweight="bold",
                )
            left += width
        axes.annotate(
            format_seconds(total_s),
            (left, y),
            fontsize=8.5,
            color=INK["muted"],
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xlim(0, 1.22 * max(predicted_s or 0.0, measured_s or 0.0, 1e-12))
    axes.set_yticks([0, 1], ["predicted", "measured"])
    axes.set_ylim(1.5, -0.5)
    bar_axes(axes)
    time_axis(axes)


def _bullets(axes: Axes, phase: Phase, names: list[str], key: str, tips: dict[str, str]) -> None:
    rows = {row.op.name: row for row in _block(phase)}
    widest = max(max(_measured(row), _predicted(row), *(row.interval_s or ())) for row in rows.values())
    for y, name in enumerate(names):
        row = rows.get(name)
        if row is None:
            continue
        gid, seconds = f"b{key}-{y}", _measured(row)
        axes.barh(y, seconds, height=0.58, color=INK[group_of(row.op.part, row.op.kind)])
        axes.patches[-1].set_gid(gid)
        tips[gid] = f"{short(name)}: measured {format_si(seconds, 's')}"
        end = seconds
        if row.predicted_s is not None and row.error is not None:
            axes.plot([row.predicted_s] * 2, [y - 0.4, y + 0.4], color=INK["ink"], linewidth=2)
            tips[gid] += f", predicted {format_seconds(row.predicted_s)} ({signed_percent(row.error)})"
            end = max(end, row.predicted_s, *(row.interval_s or ()))
            if row.interval_s:
                axes.plot(row.interval_s, [y, y], color=INK["ink"], linewidth=1.2)
        label = format_seconds(seconds, 1) + (f"   {signed_percent(row.error)}" if row.error is not None else "")
        axes.text(end + 0.015 * widest, y, label, va="center", fontsize=8, color=INK["muted"])
    axes.set_xlim(0, widest * 1.32)
    bar_axes(axes)
    time_axis(axes)


def _predicted(row: Row) -> float:
    return row.predicted_s or 0.0


def _measured(row: Row) -> float:
    return row.measured_s or 0.0
