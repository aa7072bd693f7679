"""Live memory during a pass, by category, operation by operation; its peak with the predicted one."""

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MultipleLocator

from llamalab.analytic.op import row_names
from llamalab.formatting import format_bytes
from llamalab.instrument.selection import layer_of
from llamalab.records.phase_profile import MemoryMoment, PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report.charts.base import INK, Plot, area, byte_step, canvas, heading, mark, plain_bytes

CATEGORIES = (
    ("kv_bytes", "KV cache that grows", "feed_forward"),
    ("activation_bytes", "activations", "attention"),
    ("logits_bytes", "logits", "ends"),
    ("workspace_bytes", "workspace", "elementwise"),
)
MOST_NAMED = 26  # operations; with more of them only the blocks are named


def timeline(profile: Profile) -> Plot:
    """Stacked areas above weights and cache; a dot at the peak and a dashed line at the predicted one."""
    phases = [phase for phase in profile.phases if phase.memory.timeline]
    figures, panels = canvas(2.75, len(phases))
    tips: dict[str, str] = {}
    for index, (axes, phase) in enumerate(zip(panels, phases, strict=True)):
        _areas(axes, phase.memory.timeline, f"{index}", tips)
        _peak(axes, phase)
        _names(axes, phase.memory.timeline)
        heading(axes, f"{profile.kind}, {phase.phase}: above weights and cache")
    moments = [moment for phase in phases for moment in phase.memory.timeline]
    areas = [
        area(label, colour) for name, label, colour in CATEGORIES if any(getattr(moment, name) for moment in moments)
    ]
    handles = [*areas, mark("peak", "o", "ink"), mark("predicted peak", "", "ink", line="--")]
    return Plot(
        figures,
        "Memory along the operations of a pass",
        "Bytes alive in each operation above weights and cache, stacked by category, with the peak and its prediction.",
        tips,
        tuple(handles),
    )


def _areas(axes: Axes, moments: list[MemoryMoment], key: str, tips: dict[str, str]) -> None:
    """Each category as one polygon with steps; all operations have equal width."""
    below = [0] * len(moments)
    for name, label, colour in CATEGORIES:
        sizes = [getattr(moment, name) for moment in moments]
        if not any(sizes):
            continue
        above = [low + size for low, size in zip(below, sizes, strict=True)]
        corners = [(place + side, size) for place, size in enumerate(above) for side in (0, 1)]
        corners += [(place + side, below[place]) for place in reversed(range(len(below))) for side in (1, 0)]
        (filled,) = axes.fill([x for x, _ in corners], [y for _, y in corners], color=INK[colour], linewidth=0)
        filled.set_gid(f"t{key}{name}")
        tips[f"t{key}{name}"] = f"{label}: at most {format_bytes(max(sizes))}"
        below = above


def _peak(axes: Axes, phase: PhaseProfile) -> None:
    memory = phase.memory
    measured, predicted = memory.peak_bytes or 0, memory.predicted_peak_bytes
    top = max(measured, predicted or 0, 1)
    at = next(place for place, one in enumerate(memory.timeline) if one.total_bytes == _highest(memory.timeline))
    axes.plot([at + 0.5], [_highest(memory.timeline)], "o", markersize=5.5, color=INK["ink"])
    if predicted is not None:
        axes.axhline(predicted, color=INK["ink"], linewidth=1.2, linestyle=(0, (4, 3)))
    right = at < len(memory.timeline) / 2
    axes.annotate(
        f"peak {format_bytes(measured)}",
        (at + 0.5, top),
        fontsize=8.5,
        color=INK["ink"],
        va="bottom",
        xytext=(0, 6),
        textcoords="offset points",
        ha="left" if right else "right",
    )
    axes.set_ylim(0, 1.2 * top)
    axes.yaxis.set_major_locator(MultipleLocator(byte_step(top)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_bytes(value)))


def _highest(moments: list[MemoryMoment]) -> int:
    return max(moment.total_bytes for moment in moments)


def _names(axes: Axes, moments: list[MemoryMoment]) -> None:
    layers = [layer_of(moment.op) for moment in moments]
    starts = [place for place, layer in enumerate(layers) if place == 0 or layer != layers[place - 1]]
    for start in starts[1:]:
        axes.axvline(start, color=INK["line"], linewidth=0.9)
    axes.set_xlim(0, len(moments))
    axes.grid(axis="x", visible=False)
    if len(moments) <= MOST_NAMED:
        names = [_short(moment.op) for moment in moments]
        axes.set_xticks([place + 0.5 for place in range(len(moments))], names, rotation=90, fontsize=7.5)
    else:
        shown = starts[:: max(1, len(starts) // 8)]
        labels = ["" if layers[start] is None else f"block {layers[start]}" for start in shown]
        axes.set_xticks(shown, labels, rotation=90, fontsize=7.5, ha="left")


def _short(op: str) -> str:
    """The last word of a name; of several rows the first and the last.

    >>> _short("layers.0.attention.rope+kv_append+flash"), _short("layers.0.attention.wq")
    ('rope … flash', 'wq')
    """
    words = [name.rpartition(".")[2] for name in row_names(op)]
    return words[0] if len(words) == 1 else f"{words[0]} … {words[-1]}"
