"""Results of the experiments on serving: speculation, continuous batching, prefix reuse, other tools."""

from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.axes import Axes

from llamalab.report.charts.base import (
    INK,
    LOOKS,
    Plot,
    area,
    bar_axes,
    canvas,
    curve,
    dashes,
    handle,
    heading,
    mark,
    ticks,
)
from llamalab.report.experiment_results import ExperimentResult

_PREDICTED = mark("predicted", "", "ink", line="-")


def speculative(answer: ExperimentResult) -> Plot:
    """Left: the speed-up over the proposals of a round, a line a draft. Right: how many of them are kept."""
    rows = answer.data["rows"]
    names = list(dict.fromkeys(row["draft"] for row in rows))
    figures, panels = canvas(2.7, 2)
    for axes, key in zip(panels, ("speed_up", "kept"), strict=True):
        for look, name in enumerate(names):
            own = [row for row in rows if row["draft"] == name]
            counts = [row["proposals"] for row in own]
            measured = "measured_speed_up" if key == "speed_up" else key
            curve(axes, counts, [row[measured] for row in own], look)
            axes.plot(
                counts,
                [row[f"predicted_{key}"] for row in own],
                linestyle=dashes(),
                color=INK[LOOKS[look][0]],
                linewidth=1.2,
            )
        ticks(axes, sorted({row["proposals"] for row in rows}))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("proposals of a round")
    panels[0].axhline(1.0, color=INK["line"], linewidth=1.0)
    heading(panels[0], "Times as fast as step by step")
    heading(panels[1], "Proposals of a round that are kept")
    key_entries = (*(handle(name, look) for look, name in enumerate(names)), mark("predicted", "", "muted", line="--"))
    return Plot(figures, "A draft and its checks", "Speed-up and kept proposals by draft.", {}, key_entries)


def continuous_batch(answer: ExperimentResult) -> Plot:
    """Tokens per second of all requests, a bar for each way, the prediction beside it."""
    tokens = sum(one["tokens"] for one in answer.data["requests"])
    measured = {way: tokens / median(times) for way, times in answer.data["samples_s"].items()}
    predicted = {way: tokens / seconds for way, seconds in answer.data["predicted_s"].items()}
    figures, (axes,) = canvas(1.7)
    _bars(axes, measured, predicted)
    heading(axes, f"{len(answer.data['requests'])} requests: tokens per second")
    return Plot(figures, "Requests together", "Tokens per second in three ways.", {}, (_PREDICTED,))


def prefix_reuse(answer: ExperimentResult) -> Plot:
    """Seconds until all prompts are processed: each in full, and from copies of their common prefix."""
    ways = ("read anew", "from copies of the prefix")
    measured = {way: median(answer.data[key]) for way, key in zip(ways, ("anew_s", "reused_s"), strict=True)}
    figures, (axes,) = canvas(1.4)
    _bars(axes, measured, dict(zip(ways, answer.data["predicted_s"], strict=True)))
    heading(axes, f"{answer.data['shape']['texts']} prompts: seconds until they are read")
    return Plot(figures, "A prefix read once", "Seconds with and without a common prefix.", {}, (_PREDICTED,))


def versus(answer: ExperimentResult) -> Plot:
    """Tokens per second of every contestant, a panel a phase, the fastest on top."""
    rates: Mapping[str, Mapping[str, float]] = answer.data["found"]["tokens_per_s"]
    phases: Sequence[str] = list(next(iter(rates.values())))
    figures, panels = canvas(0.8 + 0.22 * len(rates), len(phases))
    for axes, phase in zip(panels, phases, strict=True):
        _bars(axes, {side: own[phase] for side, own in sorted(rates.items(), key=lambda row: row[1][phase])}, {})
        heading(axes, f"{phase.capitalize()}, tokens per second")
    entries = (area("llamalab", "projections"), area("others", "muted"))
    return Plot(figures, "The race", "Tokens per second of every contestant, by phase.", {}, entries)


def neighbour(answer: ExperimentResult) -> Plot:
    """Milliseconds a token of each contestant, alone and with a process on one core; a panel a phase."""
    found = answer.data["found"]
    figures, panels = canvas(1.9, len(found))
    for axes, (phase, own) in zip(panels, found.items(), strict=True):
        rows = {
            f"{name}, {condition}": 1e3 * seconds
            for condition, by_name in own["seconds"].items()
            for name, seconds in by_name.items()
        }
        _bars(axes, dict(sorted(rows.items(), reverse=True)), {})
        heading(axes, f"{phase.capitalize()}, milliseconds a token")
    entries = (area("llamalab", "projections"), area("others", "muted"))
    return Plot(figures, "Beside a busy core", "Time of a token alone and beside a busy process.", {}, entries)


def _bars(axes: Axes, measured: Mapping[str, float], predicted: Mapping[str, float]) -> None:
    """Horizontal bars from below, each with its value; a stroke marks the prediction."""
    bar_axes(axes)
    others = not predicted and any(name.startswith("llamalab") for name in measured)
    for y, (name, value) in enumerate(measured.items()):
        colour = "muted" if others and not name.startswith("llamalab") else "projections"
        axes.barh(y, value, height=0.56, color=INK[colour])
        axes.annotate(
            f"{value:.3g}",
            (value, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK["ink"],
        )
        if name in predicted:
            axes.plot([predicted[name]] * 2, [y - 0.38, y + 0.38], color=INK["ink"], linewidth=2)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
