"""The roofline: each matrix operation against the machine's measured ceilings."""

import math

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from llamalab.comparison.basis import roof_fault
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Row
from llamalab.comparison.wording import short
from llamalab.formatting import format_si
from llamalab.hardware import of_device
from llamalab.records.roof import Roof
from llamalab.report.charts.base import INK, MARKERS, Plot, canvas, entries, mark
from llamalab.report.theme import GROUPS, group_of

AREA = 500.0  # square points of a mark that takes all of a phase's time


def measured_roofline(comparison: Comparison) -> Plot:
    """FLOP/s over intensity, log-log; shape = phase, colour = group, area = share of measured time."""
    rows = plotted(comparison)
    figures, (axes,) = canvas(3.4)
    shares = _shares(rows)
    tips = {}
    for index, row in enumerate(rows):
        tips.update(_mark(axes, row, shares[index], f"op{index}"))
    axes.set(xscale="log", yscale="log")
    left, right = (10 ** (math.log10(value) + pad) for value, pad in zip(_extent(rows), (-0.5, 0.7), strict=True))
    _roofs(axes, comparison, left, right)
    _data_sheet(axes, comparison, left, right)
    low, high = axes.get_ylim()
    axes.set(xlim=(left, right), ylim=(low, high * 3.5))
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_si(value, "FLOP/s", 0)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(LogLocator(10, subs=()))
    axes.set_xlabel("arithmetic intensity, FLOP per byte moved")
    return Plot(
        figures,
        "Roofline with measured roofs",
        "Each matrix operation's rate over its arithmetic intensity, measured filled and predicted hollow, "
        "under the roofs that this machine reached.",
        tips,
        _handles(rows),
    )


def plotted(comparison: Comparison) -> list[Row]:
    """The measured rows with matrix FLOPs; the others have no place on a logarithmic axis."""
    return [row for row in comparison.rows if row.op.flops_causal and row.measured_s]


def _mark(axes: Axes, row: Row, share: float, gid: str) -> dict[str, str]:
    assert row.measured_s
    flops, x = row.op.flops_causal, row.op.intensity
    colour, shape = INK[group_of(row.op.part, row.op.kind)], MARKERS.get(row.phase, "s")
    size = 16.0 + AREA * share
    rate = flops / row.measured_s
    axes.scatter(x, rate, s=size, marker=shape, color=colour, alpha=0.85, linewidths=0, gid=gid, zorder=3)
    tip = f"{short(row.op.name)}, {row.phase}: {format_si(rate, 'FLOP/s')} at {x:.1f} FLOP/byte, {share:.0%} of time"
    if row.predicted_s:
        axes.scatter(
            x,
            flops / row.predicted_s,
            s=size,
            marker=shape,
            facecolors="none",
            edgecolors=INK["ink"],
            linewidths=1,
            zorder=4,
        )
        tip += f", predicted {format_si(flops / row.predicted_s, 'FLOP/s')}"
    return {gid: tip}


def _roofs(axes: Axes, comparison: Comparison, left: float, right: float) -> None:
    dtype = comparison.record.dtype
    known = {
        kind: roof.per_second
        for kind in ("gemm", "attention", "stream")
        if not roof_fault(kind, dtype, roof := comparison.record.roof(kind, dtype)) and isinstance(roof, Roof)
    }
    stream = known.get("stream")
    for kind, dash in (("gemm", "-"), ("attention", (0, (4, 3)))):
        peak = known.get(kind)
        if not peak:
            continue
        start = max(left, peak / stream) if stream else left
        axes.plot([start, right], [peak, peak], linestyle=dash, color=INK["ink"], linewidth=1.3)
        name = {"gemm": "GEMM roof", "attention": "attention roof"}[kind]
        outer = (
            kind == "gemm"
        )  # clear of the marks that touch it, above the roof's end; attention's below its beginning
        axes.annotate(
            f"{name} {format_si(peak, 'FLOP/s')}",
            (right if outer else start, peak),
            fontsize=8,
            color=INK["ink"],
            xytext=(-2, 16) if outer else (4, -3),
            textcoords="offset points",
            ha="right" if outer else "left",
            va="bottom" if outer else "top",
        )
    if stream:
        top = known.get("gemm") or known.get("attention") or stream * right
        axes.plot([left, top / stream], [left * stream, top], color=INK["ink"], linewidth=1.3)
        middle = math.sqrt(left * top / stream)
        axes.annotate(
            f"memory roof {format_si(stream, 'B/s')}",
            (middle, middle * stream),
            fontsize=8,
            color=INK["ink"],
            xytext=(10, -2),
            textcoords="offset points",
            ha="left",
            va="top",
        )
        if known.get("gemm"):
            ridge = top / stream
            axes.annotate(
                f"ridge {ridge:.0f} FLOP/byte",
                (ridge, top),
                fontsize=8,
                color=INK["muted"],
                xytext=(-6, 6),
                textcoords="offset points",
                ha="right",
                va="bottom",
            )


def _data_sheet(axes: Axes, comparison: Comparison, left: float, right: float) -> None:
    """The roof of the data sheet, where the device is known, for comparison with the measured one."""
    environment = comparison.record.environment
    spec = of_device(environment.device_name, environment.memory_bytes)
    peak = spec.peak_flops_per_s.get(comparison.record.dtype) if spec else None
    if spec is None or not peak:
        return
    ridge = peak / spec.bandwidth_bytes_per_s
    axes.plot(
        [left, ridge, right],
        [left * spec.bandwidth_bytes_per_s, peak, peak],
        color=INK["muted"],
        linewidth=1,
        linestyle=(0, (1, 2)),
    )
    words = f"data sheet {format_si(peak, 'FLOP/s')}, {format_si(spec.bandwidth_bytes_per_s, 'B/s')}"
    axes.annotate(
        words,
        (right, peak),
        fontsize=8,
        color=INK["muted"],
        xytext=(-2, 30),
        textcoords="offset points",
        ha="right",
        va="bottom",
    )


def _shares(rows: list[Row]) -> list[float]:
    total: dict[str, float] = {}
    spent = [row.op.count * (row.measured_s or 0.0) for row in rows]
    for row, seconds in zip(rows, spent, strict=True):
        total[row.phase] = total.get(row.phase, 0.0) + seconds
    return [seconds / total[row.phase] for row, seconds in zip(rows, spent, strict=True)]


def _extent(rows: list[Row]) -> tuple[float, float]:
    values = [row.op.intensity for row in rows]
    return min(values), max(values)


def _handles(rows: list[Row]) -> tuple[Artist, ...]:
    phases = dict.fromkeys(row.phase for row in rows)
    groups = {group_of(row.op.part, row.op.kind) for row in rows}
    return entries(
        [
            *(mark(f"{phase}, measured", MARKERS.get(phase, "s"), "muted") for phase in phases),
            mark("predicted", "o", "ink", filled=False),
            *(mark(label, "s", group) for group, label in GROUPS.items() if group in groups),
            mark("area: share of the phase's time", "None", "muted"),
        ]
    )
