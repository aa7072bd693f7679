"""The size of the KV cache at each length and batch, under MHA, GQA and MQA."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.kv_cells import CacheCell
from llamalab.formatting import format_bytes
from llamalab.report.charts.base import INK, Plot, area, canvas, heading
from llamalab.report.theme import HEAT_STEPS, heat_variable


def heatmap(comparison: Comparison) -> Plot:
    """A panel for each kind of attention on one colour scale; hatched cells do not fit beside the weights."""
    arch, cells = comparison.arch, comparison.kv_cells
    # Colours encode the cells that fit; where none does, hatching is sufficient.
    sizes = [cell.kv_bytes for cell in cells if cell.fits] or [cell.kv_bytes for cell in cells]
    extent, kinds = (min(sizes), max(sizes)), list(dict.fromkeys(cell.n_kv_heads for cell in cells))
    figures, panels = canvas(3.2, len(kinds))
    tips: dict[str, str] = {}
    for index, (axes, kv_heads) in enumerate(zip(panels, kinds, strict=True)):
        own = [cell for cell in cells if cell.n_kv_heads == kv_heads]
        _panel(axes, own, extent, f"k{index}", tips)
        this = ", this model" if kv_heads == arch.n_kv_heads else ""
        heading(axes, f"{own[0].attention}, {kv_heads:,} KV head{'s' if kv_heads > 1 else ''}{this}")
    ends = [
        area(format_bytes(size), heat_variable(step)) for step, size in zip((0, HEAT_STEPS - 1), extent, strict=True)
    ]
    return Plot(
        figures,
        "KV cache by length, batch and kind of attention",
        "GiB of KV cache for each length and batch; cells that do not fit beside the weights are hatched.",
        tips,
        (*ends, area("does not fit beside the weights here", "muted", hatched=True)),
    )


def _panel(axes: Axes, cells: Sequence[CacheCell], extent: tuple[int, int], key: str, tips: dict[str, str]) -> None:
    lengths, batches = ([*dict.fromkeys(getattr(cell, name) for cell in cells)] for name in ("context", "batch"))
    for cell in cells:
        x, y = batches.index(cell.batch), lengths.index(cell.context)
        gid = f"{key}-{x}-{y}"
        axes.add_patch(
            Rectangle(
                (x - 0.47, y - 0.46),
                0.94,
                0.92,
                linewidth=0 if cell.fits else 0.5,
                edgecolor=INK["muted"],
                gid=gid,
                facecolor=INK[heat_variable(_step(cell.kv_bytes, extent))] if cell.fits else "none",
                hatch=None if cell.fits else "////",
            )
        )
        if not cell.fits:  # the others carry their number
            tips[gid] = f"{cell.context:,} tokens x {cell.batch}: {format_bytes(cell.kv_bytes)}, does not fit"
        else:
            axes.text(x, y, _short(cell.kv_bytes), ha="center", va="center", fontsize=7.5, color=INK["ink"])
    axes.set(xlim=(-0.6, len(batches) - 0.4), ylim=(len(lengths) - 0.4, -0.6))
    axes.set_xticks(range(len(batches)), [f"{batch}" for batch in batches])
    axes.set_yticks(range(len(lengths)), [f"{seq:,}" for seq in lengths])
    axes.set(xlabel="batch", ylabel="tokens per sequence")
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _step(size: int, extent: tuple[int, int]) -> int:
    low, high = map(math.log, extent)
    return min(HEAT_STEPS - 1, int((math.log(size) - low) / (high - low or 1.0) * HEAT_STEPS))


def _short(size: int) -> str:
    """GiB with the digits that fit in a cell; smaller sizes in MiB or KiB."""
    for unit, scale in (("", 2**30), ("M", 2**20), ("K", 2**10)):
        if size >= scale:
            value = size / scale
            return f"{value:.0f}{unit}" if value >= 10 or value == int(value) else f"{value:.1f}{unit}"
    return str(size)
