"""Memory: weights and KV cache against the device, activations predicted and measured."""

from matplotlib.axes import Axes

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import relative_error
from llamalab.comparison.wording import signed_percent
from llamalab.formatting import format_bytes
from llamalab.report.charts.base import INK, Plot, area, bar_axes, byte_axis, canvas, heading, mark

_PARTS = (("weights", "projections"), ("KV cache", "feed_forward"), ("activations", "attention"))


def memory(comparison: Comparison) -> Plot:
    """Left: memory of the model at full context, per batch. Right: peak activations of each phase."""
    figures, (whole, peaks) = canvas(1.95, 2)
    tips: dict[str, str] = {}
    _held(whole, comparison, tips)
    _peaks(peaks, comparison, tips)
    return Plot(
        figures,
        "Memory of weights, KV cache and activations",
        "Bytes held by weights and KV cache at full context for growing batches, against the device's memory, "
        "and the peak of activations in each phase, predicted and measured.",
        tips,
        (*(area(label, colour) for label, colour in _PARTS), mark("predicted", "|", "ink")),
    )


def batches(comparison: Comparison) -> list[int]:
    """The batches shown: one, the largest that fits, and the first that does not."""
    most = comparison.fits(comparison.arch.max_positions)
    return sorted({1, max(1, most // 2), max(1, most), most + 1})


def _held(axes: Axes, comparison: Comparison, tips: dict[str, str]) -> None:
    capacity, weights = comparison.record.environment.memory_bytes, comparison.weight_bytes
    seq = comparison.arch.max_positions
    shown = batches(comparison)
    for y, batch in enumerate(shown):
        cache = batch * comparison.kv_bytes_per_sequence
        left = 0
        for (label, colour), size in zip(_PARTS, (weights, cache), strict=False):
            gid = f"m{y}{colour}"
            fits = weights + cache <= capacity
            axes.barh(
                y, size, left=left, height=0.6, color=INK[colour], edgecolor=INK["card"], alpha=1 if fits else 0.4
            )
            axes.patches[-1].set_gid(gid)
            tips[gid] = f"batch {batch}, {label}: {format_bytes(size)}"
            left += size
    axes.axvline(capacity, color=INK["bad"], linewidth=1.4)
    axes.annotate(
        f"{format_bytes(capacity)} here",
        (capacity, -0.5),
        fontsize=8,
        color=INK["bad"],
        xytext=(-4, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
    )
    bar_axes(axes)
    byte_axis(axes, 1.04 * max(capacity, left))
    axes.set_yticks(range(len(shown)), [f"batch {batch:,}" for batch in shown])
    axes.set_ylim(len(shown) - 0.45, -0.85)
    heading(axes, f"Held at {seq:,} tokens of context")


def _peaks(axes: Axes, comparison: Comparison, tips: dict[str, str]) -> None:
    widest = 0
    for y, phase in enumerate(comparison.phases):
        measured, predicted = phase.run.memory.peak_bytes, phase.predicted_memory.bytes
        widest = max(widest, predicted, measured or 0)
        if measured is not None:
            axes.barh(y, measured, height=0.5, color=INK["attention"])
            axes.patches[-1].set_gid(f"p{y}")
            tips[f"p{y}"] = f"{phase.run.phase}: measured {format_bytes(measured)}, predicted {format_bytes(predicted)}"
        axes.plot([predicted] * 2, [y - 0.36, y + 0.36], color=INK["ink"], linewidth=2)
        error = relative_error(predicted, measured)
        label = format_bytes(measured) if measured is not None else "not measured"
        label += f"   {signed_percent(error)}" if error is not None else ""
        axes.annotate(
            label,
            (max(predicted, measured or 0), y),
            fontsize=8,
            color=INK["muted"],
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    bar_axes(axes)
    byte_axis(axes, widest * 1.5)
    axes.set_yticks(range(len(comparison.phases)), [phase.run.phase for phase in comparison.phases])
    axes.set_ylim(len(comparison.phases) - 0.4, -0.6)
    heading(axes, "Peak of activations")
