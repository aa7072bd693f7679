"""Results of experiments, one plot each, drawn from the data of an ExperimentResult."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from llamalab.formatting import format_bytes
from llamalab.report.charts import choices, serving
from llamalab.report.charts.base import (
    INK,
    LOOKS,
    Plot,
    canvas,
    curve,
    dashes,
    handle,
    heading,
    mark,
    plain_bytes,
    ticks,
)
from llamalab.report.experiment_results import ExperimentResult


def speedup(answer: ExperimentResult) -> Plot:
    """Naive's time over flash's, and the peak memory of both, against the length."""
    rows = [row for row in answer.data["measured"] if row["samples_s"]]
    flash = [row for row in rows if row["backend"] != "naive" and row["ratio"]]
    figures, (ratio, memory) = canvas(2.9, 2)
    tokens = [row["tokens"] for row in flash]
    curve(ratio, tokens, [row["ratio"] for row in flash], 0)
    ratio.plot(tokens, [row["predicted_ratio"] for row in flash], linestyle=dashes(), color=INK["muted"], linewidth=1.3)
    ratio.axhline(1.0, color=INK["line"], linewidth=1.0)
    ratio.set_ylim(bottom=0)
    _tokens(ratio, tokens)
    heading(ratio, "Naive's time over flash's")
    for look, backend in enumerate(dict.fromkeys(row["backend"] for row in rows)):
        own = [row for row in rows if row["backend"] == backend and row["peak_bytes"]]
        curve(memory, [row["tokens"] for row in own], [row["peak_bytes"] for row in own], look + 1)
    memory.set_yscale("log", base=2)
    memory.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_bytes(value)))
    _tokens(memory, tokens)
    heading(memory, "Peak memory above Q, K and V")
    handles = [handle("naive / flash", 0), mark("predicted", "", "muted", line="--")]
    handles += [handle(name, look + 1) for look, name in enumerate(dict.fromkeys(row["backend"] for row in rows))]
    description = "Time ratio, measured and predicted, and peak memory."
    return Plot(figures, "Flash against naive over the length", description, {}, tuple(handles))


def intensity(answer: ExperimentResult) -> Plot:
    """FLOP per byte of both algorithms in prefill over the length, in decode over the group size."""
    rows = answer.data["predicted"]
    prefill = [row for row in rows if row["phase"] == "prefill" and row["head_dim"] == 128]
    longest = max(row["tokens"] for row in rows if row["phase"] == "decode")
    decode = [row for row in rows if row["phase"] == "decode" and row["tokens"] == longest]
    figures, panels = canvas(2.9, 2)
    names = {"naive": ("naive", 1), "flash": ("flash", 2), "flash_shared": ("flash, tiles share K and V in a cache", 0)}
    for axes, own, key in zip(panels, (prefill, decode), ("tokens", "group"), strict=True):
        for name, (_, look) in names.items():
            curve(axes, [row[key] for row in own], [row[name] for row in own], look)
        axes.set(xscale="log", yscale="log")
        for machine, ridge in answer.data["ridges"].items():
            axes.axhline(ridge, color=INK["muted"], linewidth=0.9, linestyle=dashes())
            axes.annotate(
                f"ridge of {machine}",
                (own[0][key], ridge),
                xytext=(0, 2),
                textcoords="offset points",
                fontsize=7,
                color=INK["muted"],
            )
        ticks(axes, [row[key] for row in own])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].set_xlabel("tokens")
    panels[1].set_xlabel("query heads that share a KV head")
    heading(panels[0], "Prefill, head dim 128: FLOP per byte")
    heading(panels[1], f"Decode at {longest:,} tokens: FLOP per byte")
    description = "FLOP per byte of naive and flash attention beside machine ridges."
    entries = tuple(handle(label, look) for label, look in names.values())
    return Plot(figures, "Intensity of attention", description, {}, entries)


def groups(answer: ExperimentResult) -> Plot:
    """Tokens per second against the batch, one line per kind of attention, until the cache is full."""
    rows = answer.data["measured"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figures, (axes,) = canvas(2.9)
    for look, kind in enumerate(kinds):
        own = [row for row in rows if row["kind"] == kind]
        curve(axes, [row["batch"] for row in own], [row["tokens_per_s"] for row in own], look)
        axes.annotate(
            f"{kind} full",
            (own[-1]["batch"], own[-1]["tokens_per_s"]),
            xytext=(6, -3),
            textcoords="offset points",
            fontsize=8,
            color=INK["ink"],
        )
    axes.set(xscale="log", yscale="log")
    ticks(axes, sorted({row["batch"] for row in rows}))
    axes.set_xlim(right=max(row["batch"] for row in rows) * 1.6)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("sequences in the batch")
    heading(axes, f"Decode, tokens per second; the cache may take {format_bytes(answer.data['memory_bytes'])}")
    description = "Tokens per second of MHA, GQA and MQA until their caches are full."
    key = tuple(handle(kind, look) for look, kind in enumerate(kinds))
    return Plot(figures, "Decode over the batch", description, {}, key)


def cache_kinds(answer: ExperimentResult) -> Plot:
    """Time and bytes of one more token against its position, for each kind of cache."""
    measured, predicted = answer.data["measured"], answer.data["predicted"]
    kinds = list(dict.fromkeys(row["kind"] for row in measured))
    figures, panels = canvas(2.9, 2)
    for axes, key, scale in zip(panels, ("time_s", "bytes"), (1e3, 1.0), strict=True):
        for look, kind in enumerate(kinds):
            seen = [row for row in measured if row["kind"] == kind]
            said = [row for row in predicted if row["kind"] == kind]
            curve(axes, [row["position"] for row in seen], [row[key] * scale for row in seen], look)
            axes.plot(
                [row["position"] for row in said],
                [row[key] * scale for row in said],
                linestyle=dashes(),
                color=INK[LOOKS[look][0]],
                linewidth=1.2,
            )
        axes.set_yscale("log", base=2 if key == "bytes" else 10)
        axes.yaxis.set_minor_locator(NullLocator())
        _tokens(axes, sorted({row["position"] for row in measured}))
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ms"))
    panels[1].yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_bytes(value)))
    heading(panels[0], "Time of one more token")
    heading(panels[1], "Bytes moved for it")
    entries = (*(handle(kind, look) for look, kind in enumerate(kinds)), mark("predicted", "", "muted", line="--"))
    description = "Time and bytes of one more token against its position."
    return Plot(figures, "With and without a KV cache", description, {}, entries)


CHARTS: dict[str, Callable[[ExperimentResult], Plot]] = {
    "flash_vs_naive": speedup,
    "attention_arithmetic": intensity,
    "gqa_groups": groups,
    "kv_cache_onoff": cache_kinds,
    "positions": choices.positions,
    "norms": choices.norms,
    "feed_forward": choices.feed_forward,
    "optimiser": choices.optimiser,
    "translation": choices.translation,
    "attention_by_hand": choices.by_hand,
    "gqa_uptraining": choices.uptraining,
    "speculative": serving.speculative,
    "continuous_batch": serving.continuous_batch,
    "prefix_reuse": serving.prefix_reuse,
    "versus": serving.versus,
    "neighbour": serving.neighbour,
}


def _tokens(axes: Axes, tokens: list[int]) -> None:
    axes.set_xscale("log")
    ticks(axes, tokens)
    axes.set_xlabel("tokens")
