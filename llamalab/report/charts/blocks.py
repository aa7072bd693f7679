"""Where the time of one block goes, op by op, measured with the prediction beside it."""

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from llamalab.comparison.comparison import Comparison, Phase, Row, part_of
from llamalab.comparison.sentences import percent, short
from llamalab.report.charts.base import INK, Plot, bar_axes, canvas, heading, legend, mark, time_axis
from llamalab.report.theme import GROUPS, group_of
from llamalab.units import format_si

SHORTEST_NAMED = 0.09  # a segment narrower than this share of its bar carries no number


def stacked(comparison: Comparison) -> Plot:
    """Two bars per phase, predicted and measured, split by group of operations."""
    phases = [phase for phase in comparison.phases if _block(phase)]
    figure, panels = canvas(2.1, len(phases), wspace=0.28)
    figure.subplots_adjust(left=0.085, right=0.985, top=0.86, bottom=0.3)
    tips: dict[str, str] = {}
    for index, (axes, phase) in enumerate(zip(panels, phases, strict=True)):
        _stack(axes, _block(phase), f"{index}", tips)
        heading(axes, f"{phase.run.phase.capitalize()}, one block")
    legend(figure, [Patch(color=INK[group], label=GROUPS[group]) for group in GROUPS if group != "ends"],
           loc="lower left", bbox_to_anchor=(0.085, 0.02), ncols=4, handlelength=0.9, handleheight=0.9)  # fmt: skip
    return Plot(
        figure,
        "Time of one block by group of operations",
        "For prefill and decode: the predicted and the measured time of one block, split by group.",
        tips,
    )


def bars(comparison: Comparison) -> Plot:
    """One bar per operation and phase, with a tick at the prediction."""
    phases = [phase for phase in comparison.phases if _block(phase)]
    names = list(dict.fromkeys(row.op.name for phase in phases for row in _block(phase)))
    figure, panels = canvas(0.9 + 0.27 * len(names), len(phases), wspace=0.12)
    figure.subplots_adjust(left=0.155, right=0.985, top=0.92, bottom=0.13)
    tips: dict[str, str] = {}
    for index, (axes, phase) in enumerate(zip(panels, phases, strict=True)):
        _bullets(axes, phase, names, f"{index}", tips)
        heading(axes, f"{phase.run.phase.capitalize()}, one block, op by op")
        axes.set_yticks(range(len(names)), [short(name) for name in names] if index == 0 else [])
        axes.set_ylim(len(names) - 0.4, -0.6)
    handles = [mark("measured (median)", "s", "muted"), mark("predicted", "|", "ink")]
    if comparison.basis.constants:
        handles.append(mark("interval of the prediction", "", "ink", line="-"))
    legend(figure, handles, loc="lower left", bbox_to_anchor=(0.155, 0.005), ncols=3)
    return Plot(
        figure,
        "Time of each operation of a block",
        "For every operation a bar for the measured median and a tick for the prediction; errors beside the bars.",
        tips,
    )


def _block(phase: Phase) -> list[Row]:
    return [row for row in phase.rows if part_of(row.op.name) == "block" and row.measured_s]


def _stack(axes: Axes, rows: list[Row], key: str, tips: dict[str, str]) -> None:
    for y, (label, seconds_of) in enumerate((("predicted", _predicted), ("measured", _measured))):
        total, left = sum(map(seconds_of, rows)), 0.0
        for group in GROUPS:
            width = sum(seconds_of(row) for row in rows if group_of(row.op.name, row.op.kind) == group)
            if not width:
                continue
            gid = f"s{key}{y}{group}"
            axes.barh(y, width, left=left, height=0.62, color=INK[group], edgecolor=INK["card"], linewidth=1)
            axes.patches[-1].set_gid(gid)
            tips[gid] = f"{label}, {GROUPS[group]}: {format_si(width, 's')}, {width / total:.0%}"
            if width / total >= SHORTEST_NAMED:
                axes.text(left + width / 2, y, f"{width / total:.0%}", ha="center", va="center", fontsize=8.5,
                          color=INK["card"], fontweight="bold")  # fmt: skip
            left += width
        if not total:
            axes.text(0, y, " not predicted", va="center", fontsize=8.5, color=INK["muted"])
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
        axes.barh(y, seconds, height=0.58, color=INK[group_of(name, row.op.kind)])
        axes.patches[-1].set_gid(gid)
        tips[gid] = f"{short(name)}: measured {format_si(seconds, 's')}"
        end = seconds
        if row.predicted_s is not None and row.error is not None:
            axes.plot([row.predicted_s] * 2, [y - 0.4, y + 0.4], color=INK["ink"], linewidth=2)
            tips[gid] += f", predicted {format_si(row.predicted_s, 's')} ({percent(row.error)})"
            end = max(end, row.predicted_s, *(row.interval_s or ()))
            if row.interval_s:
                axes.plot(row.interval_s, [y, y], color=INK["ink"], linewidth=1.2)
        label = format_si(seconds, "s", 1) + (f"   {percent(row.error)}" if row.error is not None else "")
        axes.text(end + 0.015 * widest, y, label, va="center", fontsize=8, color=INK["muted"])
    axes.set_xlim(0, widest * 1.32)
    bar_axes(axes)
    time_axis(axes)


def _predicted(row: Row) -> float:
    return row.predicted_s or 0.0


def _measured(row: Row) -> float:
    return row.measured_s or 0.0
