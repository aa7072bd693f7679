"""Results of the experiments on Llama's design choices, one plot each; every seed is a mark where seeds were run."""

from collections.abc import Sequence
from math import exp
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

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

_HEIGHT = 2.9
_LEAST_WEIGHT = 0.05  # the drawn part of a pattern


def _canvas(height: float, panels: int = 1) -> tuple[list[Figure], list[Axes]]:
    """As canvas, with few ticks, for the size limit of a page."""
    figures, axes = canvas(height, panels)
    for one in axes:
        one.xaxis.set_major_locator(MaxNLocator(4))
        one.yaxis.set_major_locator(MaxNLocator(4))
    return figures, axes


def positions(answer: ExperimentResult) -> Plot:
    """Perplexity over the length that is read: left by kind of position, right RoPE stretched without training."""
    figures, panels = _canvas(_HEIGHT, 2)
    rows = answer.data["table"]
    lengths = [int(key.partition("_")[2]) for key in rows[0] if key.startswith("perplexity_")]
    plain = [row for row in rows if ", " not in row["kind"]]
    turned = [row for row in rows if row["kind"].startswith("rope")]
    handles = []
    for axes, own in zip(panels, (plain, turned), strict=True):
        for look, row in enumerate(own):
            known = [length for length in lengths if row[f"perplexity_{length}"] is not None]
            colour, marker = LOOKS[look]
            # A line alone, for its bytes; a single length would be no line.
            axes.plot(
                known,
                [row[f"perplexity_{length}"] for length in known],
                color=INK[colour],
                linewidth=1.8,
                marker=marker if len(known) == 1 else None,
            )
            handles.append(handle(row["kind"].replace("rope, ", "RoPE "), look))
        axes.set_xscale("log")
        ticks(axes, lengths)
        axes.set_xlabel("tokens read")
    heading(panels[0], f"Perplexity, trained at {answer.data['trained_tokens']} tokens")
    heading(panels[1], "RoPE stretched, not trained again")
    handles[len(plain)] = handle("RoPE as trained", 0)
    description = "Perplexity over the length for five kinds of positions and four ways to stretch RoPE."
    return Plot(figures, "Positions beyond the trained length", description, {}, tuple(handles))


def norms(answer: ExperimentResult) -> Plot:
    """Left: loss with norms before and behind each part, with and without warm-up. Right: gradients over depth."""
    figures, (loss, depth) = _canvas(_HEIGHT, 2)
    deep = [row for row in answer.data["measured"] if "norm, " in row["variant"]]
    names = list(dict.fromkeys(row["variant"] for row in deep))
    for look, name in enumerate(names):
        own = [row for row in deep if row["variant"] == name]
        every = own[0]["steps"] / len(own[0]["losses"])
        seeds = zip(*(row["losses"] for row in own), strict=False)
        shown = [(1 + place * every, mean(values)) for place, values in enumerate(seeds) if None not in values]
        loss.plot(*zip(*shown, strict=True), color=INK[LOOKS[look][0]], linewidth=1.4)
    loss.axhline(answer.data["entropy_of_tokens"], color=INK["muted"], linestyle=dashes(), linewidth=1.0)
    loss.set_xlabel("step")
    heading(loss, "Loss, mean of the seeds")
    for look, (_, seeds) in enumerate(answer.data["first_gradients"].items()):
        shown = [mean(own) for own in zip(*([one / run[-1] for one in run] for run in seeds), strict=True)]
        depth.plot(range(1, len(shown) + 1), shown, color=INK[LOOKS[2 * look][0]], linewidth=1.4)
    depth.set_xlabel("block")
    depth.set_ylim(bottom=0)
    heading(depth, "First gradient, share of the last block's")
    keys = (
        *(handle(name.replace("none", "no warm-up"), look) for look, name in enumerate(names)),
        mark("single tokens alone", "", "muted", line="--"),
    )
    description = "Loss of pre-norm and post-norm with and without warm-up, and gradients over depth at the start."
    return Plot(figures, "Where the norms stand", description, {}, keys)


def feed_forward(answer: ExperimentResult) -> Plot:
    """Left: held-out loss of each feed-forward, every seed. Right: width over model dim of every known model."""
    figures, (loss, ratio) = _canvas(_HEIGHT, 2)
    _seeds(loss, answer.data["measured"], "held_out_loss")
    heading(loss, "Held-out loss at equal parameters")
    rows = answer.data["presets"]
    rules = sorted(set(map(_rule, rows)))
    bins = range(4, 17)  # halves, from 2 to 8
    low: dict[int, int] = {}
    for look, rule in enumerate(rules):
        own = [row["ratio"] for row in rows if _rule(row) == rule]
        for half in bins:
            count = sum(half <= 2 * one < half + 1 for one in own)
            if count:
                ratio.bar(half / 2 + 0.25, count, 0.44, bottom=low.get(half, 0), color=INK[LOOKS[look][0]])
                low[half] = low.get(half, 0) + count
    ratio.axvline(8 / 3, color=INK["muted"], linestyle=dashes(), linewidth=1.0)
    ratio.set_xlabel("F / D")
    heading(ratio, f"Width over model dim: {len(rows)} known models")
    keys = tuple(area(rule, LOOKS[look][0]) for look, rule in enumerate(rules))
    description = "Held-out loss of seven feed-forwards, and the width of every known model against 8/3."
    return Plot(figures, "Feed-forwards", description, {}, (*keys, mark("8/3", "", "muted", line="--")))


def _rule(row: dict[str, Any]) -> str:
    if row["factor"] is None:
        return "another width"
    return "2/3 x 4 D rounded up" if row["factor"] == 1.0 else "a factor more"


def optimiser(answer: ExperimentResult) -> Plot:
    """Left: decay of a weight over the size of its gradients. Right: the recipe without each of its parts."""
    figures, (decay, parts) = _canvas(_HEIGHT, 2)
    rows = answer.data["predicted"]
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    for look, name in enumerate(names):
        own = [row for row in rows if row["optimizer"] == name]
        scales = [row["gradient"] for row in own]
        curve(decay, scales, [row["measured_left"] for row in own], look)
        decay.plot(scales, [row["predicted_left"] for row in own], color=INK["muted"], linestyle=dashes(), linewidth=1)
    decay.set_xscale("log")
    decay.set_xticks(scales, [f"{one:g}" for one in scales])
    decay.xaxis.set_minor_locator(NullLocator())
    decay.set_xlabel("deviation of the gradient")
    heading(decay, "What is left of a weight under noise")
    runs = [row for row in answer.data["measured"] if not row["variant"].endswith(" x10")]
    base = {row["seed"]: row["held_out_loss"] for row in runs if row["variant"] == "recipe"}
    against = [
        row | {"more": row["held_out_loss"] - base[row["seed"]]}
        for row in runs
        if row["variant"] not in ("recipe", names[1]) and row["held_out_loss"] is not None
    ]
    _seeds(parts, against, "more")
    parts.axvline(0, color=INK["muted"], linewidth=1.0)
    heading(parts, "Held-out loss above the recipe's")
    keys = (*(handle(name, look) for look, name in enumerate(names)), mark("predicted", "", "muted", line="--"))
    description = "Weights that decay under noise, and the loss of the recipe with each part left out."
    return Plot(figures, "The optimiser, part by part", description, {}, keys)


def _seeds(axes: Axes, rows: Sequence[dict[str, Any]], key: str) -> None:
    """A line of marks for each variant, one mark a seed, the lowest mean on top."""
    names = list(dict.fromkeys(row["variant"] for row in rows))
    own = {name: [row[key] for row in rows if row["variant"] == name and row[key] is not None] for name in names}
    ordered = sorted((name for name in names if own[name]), key=lambda name: -mean(own[name]))
    bar_axes(axes)
    for y, name in enumerate(ordered):
        axes.plot(
            own[name], [y] * len(own[name]), linestyle="", marker="o", markersize=5, color=INK["projections"], alpha=0.8
        )
    axes.set_yticks(range(len(ordered)), ordered)
    axes.margins(y=0.12)


def translation(answer: ExperimentResult) -> Plot:
    """Left: the cost of each kind of Transformer. Right: attention of translated words to the source."""
    figures, (cost, cross) = _canvas(3.2, 2)
    rows = answer.data["predicted"]
    kept = [row["own_kv_bytes"] + row["cross_kv_bytes"] for row in rows]
    flops, most = [row["flops"] for row in rows], max(row["flops"] for row in rows)
    bar_axes(cost)
    for y, (row, held, done) in enumerate(zip(rows, kept, flops, strict=True)):
        cost.barh(y + 0.19, done / most, height=0.36, color=INK["projections"])
        cost.barh(y - 0.19, held / max(kept), height=0.36, color=INK["attention"])
        cost.annotate(row["kind"], (0, y + 0.4), fontsize=8, color=INK["ink"], va="bottom")
    cost.set_yticks([])
    cost.margins(y=0.14)
    cost.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    heading(cost, "A translation's cost at equal size")
    shown = answer.data["measured"][0]["cross_attention"]
    bubbles(cross, shown["weights"], shown["target"], shown["source"])
    heading(cross, "What German words look at in the English")
    keys = (area("FLOPs, of the most", "projections"), area("keys and values kept", "attention"))
    description = "FLOPs and kept keys and values of three kinds of Transformer, and cross attention of a translation."
    return Plot(figures, "Encoder, decoder and both", description, {}, keys)


def by_hand(answer: ExperimentResult) -> Plot:
    """Left: the worked example's pattern. Right: FLOP per byte of each step of naive attention."""
    figures, (pattern, steps) = _canvas(2.4, 2)
    words = answer.data["words"]
    bubbles(pattern, answer.data["hand"]["pattern"], words, words)
    heading(pattern, "Weights of the worked example")
    rows = answer.data["steps"][::-1]
    bar_axes(steps)
    steps.barh(range(len(rows)), [row["intensity_flop_per_byte"] for row in rows], height=0.55, color=INK["attention"])
    steps.set_yticks(range(len(rows)), [row["step"] for row in rows])
    heading(steps, "FLOP per byte, step by step")
    return Plot(figures, "Attention by hand", "The pattern of three words, and the intensity of each step.", {})


def uptraining(answer: ExperimentResult) -> Plot:
    """Perplexity over the share of the cache that is left: pooled, and trained on."""
    figures, (axes,) = _canvas(_HEIGHT)
    rows = [row for row in answer.data["measured"] if row["pooling"] == "mean"]
    sizes = {row["n_kv_heads"]: row["kv_bytes_per_token"] for row in answer.data["predicted"]}
    moments = [key for key in rows[0] if key.startswith("loss_")]
    names = []
    for look, key in enumerate(moments):
        heads = sorted({row["n_kv_heads"] for row in rows})
        values = [mean(exp(row[key]) for row in rows if row["n_kv_heads"] == one) for one in heads]
        curve(axes, [sizes[one] / max(sizes.values()) for one in heads], values, look)
        share = key.removeprefix("loss_after_")
        names.append("pooled" if key == "loss_before" else f"trained on for {float(share):.0%} of the steps")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_xlabel("share of the KV cache that is left")
    heading(axes, "Perplexity, mean of three seeds")
    keys = tuple(handle(name, look) for look, name in enumerate(names))
    description = "Perplexity of MHA pooled into fewer KV heads, before and after a short training."
    return Plot(figures, "From MHA to GQA and MQA", description, {}, keys)


def bubbles(axes: Axes, weights: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str]) -> None:
    """A pattern as squares whose area is the weight: a row a query, a column a key."""
    for y, row in enumerate(weights):
        for x, weight in ((x, weight) for x, weight in enumerate(row) if weight > _LEAST_WEIGHT):
            side = 0.95 * weight**0.5
            axes.bar(x, side, width=side, bottom=len(rows) - 1 - y - side / 2, color=INK["accent"])
    axes.grid(visible=False)
    axes.set(xlim=(-0.6, len(columns) - 0.4), ylim=(-0.6, len(rows) - 0.4))
    axes.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 4 else 0)
    axes.set_yticks(range(len(rows)), rows[::-1])
    axes.tick_params(labelsize=7.5)
