"""The size of the KV cache at each length and batch, under MHA, GQA and MQA."""

import math

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch, attention_kind, valid_kv_heads
from llamalab.comparison.comparison import Comparison
from llamalab.report.charts.base import INK, Plot, canvas, heading, legend
from llamalab.report.theme import HEAT_STEPS, heat_variable
from llamalab.units import format_bytes

BATCHES = (1, 2, 4, 8, 16, 32, 64)


def heatmap(comparison: Comparison) -> Plot:
    """Three panels on one colour scale; hatched cells do not fit beside the weights."""
    arch, dtype = comparison.arch, comparison.record.dtype
    kinds, lengths = kv_head_choices(arch), sequence_lengths(arch)
    sizes = [kv_bytes(arch.replace(n_kv_heads=kv), seq=seq, batch=batch, dtype=dtype)
             for kv in kinds for seq in lengths for batch in BATCHES]  # fmt: skip
    free = comparison.record.environment.memory_bytes - weight_bytes(arch, dtype)
    # Colours are for the cells that fit; where none does, hatching says all there is to say.
    sizes = [size for size in sizes if size <= free] or sizes
    figure, panels = canvas(3.9, len(kinds), wspace=0.08)
    figure.subplots_adjust(left=0.07, right=0.995, top=0.89, bottom=0.2)
    tips: dict[str, str] = {}
    for index, (axes, kv_heads) in enumerate(zip(panels, kinds, strict=True)):
        variant = arch.replace(n_kv_heads=kv_heads)
        _panel(axes, variant, dtype, lengths, (min(sizes), max(sizes)), free, f"k{index}", tips)
        own = ", this model" if kv_heads == arch.n_kv_heads else ""
        heading(axes, f"{attention_kind(arch.n_heads, kv_heads)}{own}")
        axes.set_yticks(range(len(lengths)), [f"{seq:,}" for seq in lengths] if index == 0 else [])
        axes.set_xlabel("batch")
    panels[0].set_ylabel("tokens per sequence")
    unfit = Patch(
        facecolor=INK["card"], edgecolor=INK["muted"], hatch="////", label="does not fit beside the weights here"
    )
    ends = [Patch(facecolor=INK[heat_variable(step)], edgecolor=INK["line"], label=format_bytes(size))
            for step, size in ((0, min(sizes)), (HEAT_STEPS - 1, max(sizes)))]  # fmt: skip
    legend(figure, [*ends, unfit], loc="lower left", bbox_to_anchor=(0.07, 0.015), ncols=3, handleheight=1.0)
    return Plot(
        figure,
        "KV cache by length, batch and kind of attention",
        "GiB of KV cache for each length and batch; cells that do not fit beside the weights are hatched.",
        tips,
    )


def kv_head_choices(arch: LlamaArch) -> list[int]:
    """MHA, one GQA and MQA: the model's own grouping where it has one, else eight KV heads or near."""
    between = [heads for heads in valid_kv_heads(arch.n_heads) if 1 < heads < arch.n_heads]
    chosen = [arch.n_kv_heads] if arch.n_kv_heads in between else sorted(between, key=lambda heads: abs(heads - 8))[:1]
    return list(dict.fromkeys([arch.n_heads, *chosen, 1]))


def sequence_lengths(arch: LlamaArch) -> list[int]:
    """Seven doublings that put the trained context at the fourth."""
    return [max(1, arch.max_positions // 8) * 2**power for power in range(7)]


def _panel(
    axes: Axes, arch: LlamaArch, dtype: str, lengths: list[int], extent: tuple[int, int], free: int, key: str,
    tips: dict[str, str],
) -> None:  # fmt: skip
    for y, seq in enumerate(lengths):
        for x, batch in enumerate(BATCHES):
            size = kv_bytes(arch, seq=seq, batch=batch, dtype=dtype)
            fits, gid = size <= free, f"{key}-{x}-{y}"
            axes.add_patch(Rectangle(
                (x - 0.47, y - 0.46), 0.94, 0.92, linewidth=0 if fits else 0.5, edgecolor=INK["muted"], gid=gid,
                facecolor=INK[heat_variable(_step(size, extent))] if fits else "none", hatch=None if fits else "////",
            ))  # fmt: skip
            tips[gid] = f"{seq:,} tokens x {batch}: {format_bytes(size)}{'' if fits else ', does not fit'}"
            if fits:
                axes.text(x, y, _short(size), ha="center", va="center", fontsize=7.5, color=INK["ink"])
    axes.set(xlim=(-0.6, len(BATCHES) - 0.4), ylim=(len(lengths) - 0.4, -0.6))
    axes.set_xticks(range(len(BATCHES)), [str(batch) for batch in BATCHES])
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
