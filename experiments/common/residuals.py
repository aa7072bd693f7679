"""Errors of points that a fit did not see, against batch, context and device: as a table, and drawn."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.common.left_out import Unseen

DRAWING = Path(__file__).parents[2] / "docs" / "accuracy-residuals.svg"


def residual_table(out: Sequence[Unseen]) -> list[str]:
    """Mean error and MAPE by batch, by tokens in view and by device, as lines of Markdown."""

    def context(one: Unseen) -> str:
        assert one.one.point is not None
        work = one.one.point.work
        tokens = work.prompt + (0 if one.one.point.phase == "prefill" else work.generate // 2)
        return next(f"to {limit:,}" for limit in (256, 1024, 4096, 10**9) if tokens <= limit).replace(
            "to 1,000,000,000", "over 4,096"
        )

    lines = ["| what | group | points | mean error | MAPE |", "|---|---|---:|---:|---:|"]
    groupings: tuple[tuple[str, Callable[[Unseen], Any]], ...] = (
        ("batch", lambda one: one.one.point.work.batch),  # type: ignore[union-attr]
        ("tokens in view", context),
        ("device", lambda one: one.one.point.row["device"]),  # type: ignore[union-attr]
    )
    for what, label in groupings:
        groups: dict[Any, list[float]] = {}
        for one in out:
            groups.setdefault(label(one), []).append(one.fold)
        order = ["to 256", "to 1,024", "to 4,096", "over 4,096"]
        for name in sorted(groups, key=lambda name: order.index(name) if name in order else name):
            errors = [100 * math.expm1(error) for error in groups[name]]
            size = fmean(map(abs, errors))
            lines.append(f"| {what} | {name} | {len(errors)} | {fmean(errors):+.1f} % | {size:.1f} % |")
    return lines


def draw(out: Sequence[Unseen]) -> None:
    """The residuals as three panels of points."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "llamalab"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(14, 4.5), constrained_layout=True)
    works = [one.one.point.work for one in out]  # type: ignore[union-attr]
    errors = [100 * math.expm1(one.fold) for one in out]
    names = sorted({one.one.point.row["device"] for one in out})  # type: ignore[union-attr]
    places = [names.index(one.one.point.row["device"]) for one in out]  # type: ignore[union-attr]
    columns = (
        ("batch", [work.batch for work in works]),
        ("prompt and half of what is generated, tokens", [work.prompt + work.generate // 2 for work in works]),
        ("device", places),
    )
    for panel, (title, across) in zip(panels, columns, strict=True):
        panel.scatter(across, errors, s=8, alpha=0.5, linewidths=0)
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.set(xlabel=title, ylim=(-80, 120))
        if title != "device":
            panel.set_xscale("log", base=2)
    panels[0].set_ylabel("predicted / measured − 1, folds left out, %")
    panels[2].set_xticks(range(len(names)), names, rotation=90, fontsize=5)
    figure.savefig(DRAWING, metadata={"Date": None})
