"""Tokens per second of a bench as curves over depth and over batch, measured and predicted."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from llamalab.comparison.wording import tokens_per_s
from llamalab.report.charts.base import INK, Plot, canvas, heading, mark

BenchTestRow = Mapping[str, Any]
AXES = (("depth_tokens", "tokens in the cache before"), ("batch", "sequences in the batch"))
_KINDS = {"prompt": "prompts", "generate": "generation", "both": "prompt and generation"}
_STYLES = (("projections", "o"), ("attention", "s"), ("feed_forward", "^"), ("elementwise", "D"), ("ends", "v"))


class Curve(NamedTuple):
    """The rows of one kind that differ in one size alone, in its order."""

    kind: str
    axis: str
    label: str
    rows: tuple[BenchTestRow, ...]


def curves(rows: Sequence[BenchTestRow]) -> list[Curve]:
    """Every curve with at least two measured points."""
    found: dict[tuple[str, str, str], list[BenchTestRow]] = {}
    for row in rows:
        for axis, _ in AXES:
            found.setdefault((_kind(row), axis, _label(row, axis)), []).append(row)
    return [
        Curve(kind, axis, label, tuple(sorted(own, key=lambda row: row[axis])))
        for (kind, axis, label), own in found.items()
        if len({row[axis] for row in own if row["tokens_per_s"]}) > 1
    ]


def bench_curves(rows: Sequence[BenchTestRow]) -> Plot:
    """A panel for each kind of test and each size that varies; a line for each of the other sizes."""
    drawn = curves(rows)
    wanted = list(dict.fromkeys((one.kind, one.axis) for one in drawn))
    labels = list(dict.fromkeys(one.label for one in drawn))
    figures, panels = canvas(2.7, len(wanted))
    tips: dict[str, str] = {}
    for index, (axes, (kind, axis)) in enumerate(zip(panels, wanted, strict=True)):
        for one in drawn:
            if (one.kind, one.axis) == (kind, axis):
                _curve(axes, one, labels.index(one.label), f"c{index}-{labels.index(one.label)}", tips)
        _dress(
            axes, kind, axis, [row[axis] for one in drawn if (one.kind, one.axis) == (kind, axis) for row in one.rows]
        )
    key = [mark(label, _style(place)[1], _style(place)[0], line="-") for place, label in enumerate(labels)]
    return Plot(
        figures,
        "Tokens per second",
        "Measured marks on lines, predictions dashed, over depth and over batch.",
        tips,
        (*key, mark("predicted", "None", "muted", line="--")),
    )


def _curve(axes: Axes, one: Curve, place: int, key: str, tips: dict[str, str]) -> None:
    colour, marker = _style(place)
    guess = [(row[one.axis], row["predicted_tokens_per_s"]) for row in one.rows if row["predicted_tokens_per_s"]]
    axes.plot([x for x, _ in guess], [y for _, y in guess], linestyle=(0, (4, 3)), color=INK[colour], linewidth=1.2)
    seen = [row for row in one.rows if row["tokens_per_s"]]
    axes.plot([row[one.axis] for row in seen], [row["tokens_per_s"] for row in seen], color=INK[colour], linewidth=1.8)
    for number, row in enumerate(seen):
        gid = f"{key}-{number}"
        axes.plot(
            [row[one.axis]],
            [row["tokens_per_s"]],
            marker,
            markersize=6,
            color=INK[colour],
            markeredgecolor=INK["card"],
            gid=gid,
        )
        guessed = row["predicted_tokens_per_s"]
        tips[gid] = f"{row['test']}, batch {row['batch']}: {tokens_per_s(row['tokens_per_s'])}" + (
            f", predicted {tokens_per_s(guessed)}" if guessed else ""
        )


def _dress(axes: Axes, kind: str, axis: str, sizes: Sequence[int]) -> None:
    shown = sorted(set(sizes))
    if axis == "batch":
        axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [f"{size:,}" for size in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(dict(AXES)[axis])
    heading(axes, f"{_KINDS[kind].capitalize()}, tokens per second")


def _style(place: int) -> tuple[str, str]:
    return _STYLES[place % len(_STYLES)]


def _kind(row: BenchTestRow) -> str:
    return (
        "both" if row["prompt_tokens"] and row["generated_tokens"] else "prompt" if row["prompt_tokens"] else "generate"
    )


def _label(row: BenchTestRow, axis: str) -> str:
    """The label of a curve within its panel: the test without the size on the axis."""
    test = row["test"].partition(" @")[0] if axis == "depth_tokens" else row["test"]
    return f"{row['model']}, {test}" + (f", batch {row['batch']}" if axis == "depth_tokens" else "")
